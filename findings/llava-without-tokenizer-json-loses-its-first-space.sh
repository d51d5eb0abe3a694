#!/usr/bin/env bash
# transformers 5.23.0 tokenises differently from SentencePiece with the `tokenizer.model` of a LLaVA folder that has no
# tokenizer.json: the first word of a text lacks its "▁". The same file in a Llama folder is right, so a LLaVA gets a
# different prompt from the one its language model was trained with, without an error; `decode` returns the same text.
#
# Observed on 27 November 2026 with sentencepiece 0.2.3, tokenizers 0.23.3, Python 3.11. AutoTokenizer and AutoProcessor
# do not take the class that tokenizer_config.json names where config.json says `llava`, `llava_next` or `vipllava`
# (MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS), and the tokenizer that 5.23.0 builds from the file instead omits the
# dummy prefix. 5.24.0 follows the file's own settings and agrees with SentencePiece. Folders with a tokenizer.json,
# such as those of llava-hf, are not affected.
#
# Both versions, one after the other, with a small tokenizer of Llama's type that the script trains. Prints versions and
# tokens; exits non-zero if that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/read.py" <<'PYTHON'
import json
import shutil
import sys
from pathlib import Path

import sentencepiece
import tokenizers
import transformers
from transformers import AutoTokenizer

transformers.utils.logging.set_verbosity_error()
for library in (transformers, tokenizers, sentencepiece):
    print(library.__name__, library.__version__)

root = Path(sys.argv[1])
lines = ["USER: how many cats are there? ASSISTANT: two cats on a red mat.", "a photo of a blue circle on a table"]
(root / "lines.txt").write_text("\n".join(lines * 20))
sentencepiece.SentencePieceTrainer.train(
    input=str(root / "lines.txt"), model_prefix=str(root / "tokenizer"), model_type="bpe", vocab_size=310,
    hard_vocab_limit=False, byte_fallback=True, character_coverage=0.99995, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
    normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
)
itself = sentencepiece.SentencePieceProcessor(str(root / "tokenizer.model"))
texts = ["USER: how many cats? ASSISTANT:", "a photo of a cat", "two circles"]


def read(kind):
    """The ids that AutoTokenizer returns for each text in a folder of that type, and what it decodes from them."""
    folder = root / kind
    folder.mkdir(exist_ok=True)
    shutil.copy(root / "tokenizer.model", folder)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **names}))
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return type(tokenizer).__name__, ids, [tokenizer.decode(text_ids) for text_ids in ids]


expected = [itself.encode(text) for text in texts]
print(f"{'sentencepiece':14} {itself.encode(texts[1], out_type=str)}")
same = True
for kind in ("llama", "llava", "llava_next", "vipllava"):
    name, ids, decoded = read(kind)
    affected = transformers.__version__ == "5.23.0" and kind != "llama"
    equal = [mine == its for mine, its in zip(ids, expected)]
    same = same and decoded == texts and equal == [not affected] * len(texts)
    pieces = [itself.id_to_piece(token) for token in ids[1]]
    print(f"{kind:14} {pieces}, equal {sum(equal)} of {len(equal)}, by {name}")
print("as described above" if same else "this has changed")
sys.exit(0 if same else 1)
PYTHON
for version in 5.23.0 5.24.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==$version sentencepiece==0.2.3 \
        tokenizers==0.23.3 protobuf==7.36.2
    "$folder/venv/bin/python" "$folder/read.py" "$folder"
done
