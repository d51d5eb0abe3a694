#!/usr/bin/env bash
# A DoRA adapter on a model in 8 bits works for one forward pass on a CPU, and raises in every pass after that:
# AttributeError: 'NoneType' object has no attribute 'dtype'. A plain LoRA on the same model always works.
#
# Observed on 27 November 2026 with torch 2.13.0, transformers 5.23.0, peft 0.21.2, bitsandbytes 0.50.2, accelerate
# 1.15.0, Python 3.11. DoRA needs the norm of the layer's weight in each pass. peft's dequantize_module_weight reads it
# and, on a CPU, replaces the layer's weight by `module.weight.to(device)`; bitsandbytes' Int8Params.to then marks the
# new parameter as not yet moved to the layer's state (CB), while its scales (SCB) were moved there in the first pass.
# The next pass moves scales that are None.
#
# Prints versions and the result of each of three passes; exits non-zero if that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2 bitsandbytes==0.50.2 \
    accelerate==1.15.0

CUDA_VISIBLE_DEVICES="" "$folder/venv/bin/python" - "$folder/model" <<'PYTHON'
import logging
import sys
import warnings

import bitsandbytes
import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, OPTConfig, OPTForCausalLM

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
transformers.utils.logging.disable_progress_bar()
for library in (torch, transformers, peft, bitsandbytes):
    print(library.__name__, library.__version__)

folder = sys.argv[1]
torch.manual_seed(0)
shape = dict(hidden_size=64, word_embed_proj_dim=64, ffn_dim=128, num_hidden_layers=1, num_attention_heads=2)
OPTForCausalLM(OPTConfig(vocab_size=64, **shape)).save_pretrained(folder)


def passes(**settings):
    """The results of three forward passes of the same model."""
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        device_map={"": "cpu"},
        dtype=torch.bfloat16,
    )
    model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], **settings)).eval()
    results = []
    for _ in range(3):
        try:
            with torch.inference_mode():
                logits = model(torch.tensor([[2, 5, 6]])).logits
            results.append("finite logits" if logits.isfinite().all() else "not finite")
        except Exception as error:
            results.append(f"{type(error).__name__}: {error}")
    return results


lora, dora = passes(), passes(use_dora=True)
print("LoRA:", lora)
print("DoRA:", dora)
expected = ["finite logits", *["AttributeError: 'NoneType' object has no attribute 'dtype'"] * 2]
same = lora == ["finite logits"] * 3 and dora == expected
print("as described above" if same else "this has changed")
sys.exit(0 if same else 1)
PYTHON
