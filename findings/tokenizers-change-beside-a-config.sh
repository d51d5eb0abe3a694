#!/usr/bin/env bash
# transformers 5.23.0 reads the same tokenizer files in two ways: the ids of a text depend on whether a model's
# config.json is in the same folder.
#
# Checkpoints such as LLaVA's have a tokenizer.json and a tokenizer_config.json with "tokenizer_class":
# "LlamaTokenizer". With a config.json of a llava (or of a mistral), AutoTokenizer uses tokenizer.json as it is. In a
# folder without config.json, where only the tokenizer's files were downloaded or copied, or with a config.json of a
# llama, it builds a LlamaTokenizer from the vocabulary and the merges alone, and silently drops tokenizer.json's rules
# for splitting a text and inserting spaces. With "legacy": false a word after any special token, and the line after
# <image>, then have other ids, so a prompt that was prepared without the model's folder differs from the one that was
# prepared with it.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
export HF_HUB_OFFLINE=1
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import json
import sys
from pathlib import Path

import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import AutoTokenizer

SPECIAL = ["<unk>", "<s>", "</s>", "<image>"]
PIECES = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *"▁catdogUSER:", "▁c", "▁ca", "▁cat"]
TEXT = "USER:<image>\ncat</s>cat"

# as in Llama's tokenizer.json: a space is inserted before every piece of text between special tokens
vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(PIECES))}
merges = [("▁", "c"), ("▁c", "a"), ("▁ca", "t")]
tokenizer_json = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
tokenizer_json.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
tokenizer_json.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
tokenizer_json.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL])
tokenizer_json.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
settings = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "bos_token": "<s>", "eos_token": "</s>"}


def tokens(name, model_type):
    """The tokenizer class for a folder with that config.json, and its tokens of the text."""
    folder = Path(name)
    folder.mkdir()
    tokenizer_json.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "unk_token": "<unk>"}))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return type(tokenizer).__name__, tokenizer.tokenize(TEXT)


print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
print(f"tokenizer.json itself: {tokenizer_json.encode(TEXT, add_special_tokens=False).tokens}")
results = {
    "with config.json of a llava": tokens("llava", "llava"),
    "with config.json of a llama": tokens("llama", "llama"),
    "without a config.json": tokens("alone", None),
}
for what, (name, text_tokens) in results.items():
    print(f"{what}: {name} {text_tokens}")
(_, beside), (_, llama), (_, alone) = results.values()
itself = tokenizer_json.encode(TEXT, add_special_tokens=False).tokens
expected = beside == itself and alone == llama and alone != itself and "▁cat" in beside and "▁cat" not in alone
print("as described" if expected else "this has changed")
sys.exit(not expected)
PYTHON
