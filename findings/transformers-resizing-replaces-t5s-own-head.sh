#!/usr/bin/env bash
# Versions: transformers==5.23.0, torch==2.13.0, Python 3.11.
#
# transformers 5.23.0: `resize_token_embeddings`, as after adding a token, replaces the output layer of a T5 that has
# one of its own (T5 1.1, Flan-T5, mT5) by its input embeddings: all logits change, also those of the old tokens.
#
# `T5Config(tie_word_embeddings=False)` holds True: the argument only decides whether outputs are scaled, and MT5Config
# and UMT5Config set it to True as well. A checkpoint with two different matrices is loaded as it is, and a warning
# recommends to "update the config with `tie_word_embeddings=False`", which is what its config.json says already.
# Whatever ties weights later, as resizing does, then follows the config. Llama, whose config keeps the False, keeps its
# output layer.
#
# A model with random weights and an output layer of its own is saved, and its config.json says False, as the published
# ones do; it is loaded and gets two more tokens. Needs Python 3.10 to 3.13 with venv, and a package index. Exits with 0
# if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
LLAMA = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MODELS = {
    "T5": (T5ForConditionalGeneration, T5Config, T5),
    "mT5": (MT5ForConditionalGeneration, MT5Config, T5),
    "Llama": (LlamaForCausalLM, LlamaConfig, LLAMA),
}
IDS, DECODER_IDS = torch.tensor([[5, 6, 7, 1]]), torch.tensor([[0, 9]])
print(f"transformers {transformers.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}")
outcomes = {}
for name, (model_class, config_class, sizes) in MODELS.items():
    torch.manual_seed(0)
    made = model_class(config_class(**sizes, tie_word_embeddings=False))
    made.lm_head.weight = torch.nn.Parameter(torch.randn(64, 32))
    made.save_pretrained(name)
    file = Path(name, "config.json")
    stored = json.loads(file.read_text()) | {"tie_word_embeddings": False}
    file.write_text(json.dumps(stored))
    model = model_class.from_pretrained(name).eval()
    inputs = {"input_ids": IDS} | ({"decoder_input_ids": DECODER_IDS} if model.config.is_encoder_decoder else {})
    loaded = torch.equal(model.lm_head.weight, made.lm_head.weight)
    with torch.inference_mode():
        before = model(**inputs).logits
        model.resize_token_embeddings(66, mean_resizing=False)
        after = model(**inputs).logits[..., :64]
    kept = torch.equal(model.lm_head.weight[:64], made.lm_head.weight)
    embeddings = torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    outcomes[name] = (model.config.tie_word_embeddings, loaded, kept, embeddings)
    print(
        f"{name}: tie_word_embeddings is False in the file and {model.config.tie_word_embeddings} in the config; "
        f"own output layer loaded: {loaded}; after two more tokens: kept {kept}, equal to the embeddings {embeddings}; "
        f"the 64 old logits change by up to {(after - before).abs().max().item():.4f} (right: 0)"
    )
wrong, right = (True, True, False, True), (False, True, True, False)
expected = {"T5": wrong, "mT5": wrong, "Llama": right}
print("as described" if outcomes == expected else "this has changed")
sys.exit(outcomes != expected)
PYTHON
