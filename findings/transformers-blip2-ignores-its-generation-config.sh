#!/usr/bin/env bash
# Versions: transformers==5.23.0, torch==2.13.0, Python 3.11.
#
# transformers 5.23.0: BLIP-2 and InstructBLIP ignore `model.generation_config`, and with it the generation_config.json
# of a checkpoint, which they load and save.
#
# Their `generate` calls the one of `language_model`, which has a generation config of its own, made of the text config
# and stored nowhere. So a stop token, a length or a repetition penalty in the folder's file, or set on the model, has
# no effect; the arguments of `generate` have, and so has `generation_config=`. With LLaVA the file is used. The
# defaults of the language model cannot be saved: after loading they are those of the text config again.
#
# Random weights; each model is saved with max_new_tokens=3 and loaded. Needs Python 3.10 to 3.13 with venv, and a
# package index. Exits with 0 if this is still so, with 1 if it has changed.
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
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    CLIPVisionConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    OPTConfig,
)

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**WIDTH, "intermediate_size": 64, "image_size": 28, "patch_size": 14}
QFORMER = {**WIDTH, "intermediate_size": 64, "vocab_size": 64, "encoder_hidden_size": 32}
TEXT = OPTConfig(**WIDTH, vocab_size=64, word_embed_proj_dim=32, ffn_dim=64, eos_token_id=None)
IMAGE = 63
IDS = torch.tensor([[IMAGE] * 4 + [2, 5, 6, 7]])
INPUTS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "pixel_values": torch.ones(1, 3, 28, 28)}
QUESTION = {"qformer_input_ids": IDS[:, 4:], "qformer_attention_mask": torch.ones_like(IDS[:, 4:])}


def blip2():
    vision, qformer = Blip2VisionConfig(**VISION), Blip2QFormerConfig(**QFORMER)
    return Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=vision, qformer_config=qformer, text_config=TEXT, num_query_tokens=4, image_token_index=IMAGE
        )
    )


def instructblip():
    vision, qformer = InstructBlipVisionConfig(**VISION), InstructBlipQFormerConfig(**QFORMER)
    return InstructBlipForConditionalGeneration(
        InstructBlipConfig(
            vision_config=vision, qformer_config=qformer, text_config=TEXT, num_query_tokens=4, image_token_index=IMAGE
        )
    )


def llava():
    text = LlamaConfig(**WIDTH, vocab_size=64, intermediate_size=64, eos_token_id=None)
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=CLIPVisionConfig(**VISION), text_config=text, image_token_index=IMAGE)
    )


def new_tokens(model, inputs, **how):
    return model.generate(**inputs, do_sample=False, **how).shape[1] - IDS.shape[1]


print(f"transformers {transformers.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}")
outcomes = {}
for name, (make, inputs) in {
    "BLIP-2": (blip2, INPUTS),
    "InstructBLIP": (instructblip, INPUTS | QUESTION),
    "LLaVA": (llava, INPUTS),
}.items():
    torch.manual_seed(0)
    made = make()
    made.generation_config.max_new_tokens = 3
    made.save_pretrained(name)
    stored = json.loads(Path(name, "generation_config.json").read_text())["max_new_tokens"]
    model = type(made).from_pretrained(name).eval()
    outcomes[name] = (
        stored,
        model.generation_config.max_new_tokens,
        new_tokens(model, inputs),
        new_tokens(model, inputs, generation_config=model.generation_config),
    )
    print(
        f"{name}: max_new_tokens is {stored} in generation_config.json, {outcomes[name][1]} in model.generation_config; "
        f"generate makes {outcomes[name][2]} tokens, {outcomes[name][3]} with generation_config=model.generation_config"
    )
expected = {"BLIP-2": (3, 3, 20, 3), "InstructBLIP": (3, 3, 20, 3), "LLaVA": (3, 3, 3, 3)}
print("as described" if outcomes == expected else "this has changed")
sys.exit(outcomes != expected)
PYTHON
