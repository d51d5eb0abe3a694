#!/usr/bin/env bash
# Versions: transformers==5.23.0, torch==2.13.0, Python 3.11.
#
# transformers 5.23.0: `prompt_lookup_num_tokens`, which is to speed up greedy decoding without changing it, changes
# what BLIP-2 and InstructBLIP answer, from the first token on, as soon as the prompt ends with a token that it has had
# before.
#
# These models give their language model the prompt twice: as `inputs_embeds`, with the image, and as `input_ids`. The
# first pass takes the embeddings alone, so the tokens that were looked up in the prompt are not in it, but its logits
# are read as if they were: the model's choice for the end of the prompt is taken from a position some tokens earlier. A
# language model that is called with both does the same, with no image at all. LLaVA, which has ids only, and T5, whose
# decoder starts empty, are right; so is a prompt in which nothing is found. No error and no warning.
#
# Random weights in float64, so no two logits are nearly equal. The prompt's last two tokens stand in it before, as
# those of "Question: … Answer: … Question: … Answer:" do. Needs Python 3.10 to 3.13 with venv, and a package index.
# Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
import transformers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    OPTConfig,
    T5Config,
)

transformers.utils.logging.set_verbosity_error()
torch.set_default_dtype(torch.float64)
WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**WIDTH, "intermediate_size": 64, "image_size": 28, "patch_size": 14, "initializer_range": 0.3}
QFORMER = {**WIDTH, "intermediate_size": 64, "vocab_size": 64, "encoder_hidden_size": 32, "initializer_range": 0.3}
IMAGE, NEW = 63, 10
REPEATED = [2, 10, 11, 12, 13, 14, 15, 10, 11]
UNIQUE = [2, 10, 11, 12, 13, 14, 15, 16, 17]


def opt():
    return OPTConfig(**WIDTH, vocab_size=64, word_embed_proj_dim=32, ffn_dim=64, init_std=0.3, eos_token_id=None)


def llama():
    return LlamaConfig(**WIDTH, vocab_size=64, intermediate_size=64, initializer_range=0.3, eos_token_id=None)


def t5():
    return T5Config(
        vocab_size=64, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, initializer_factor=4.0,
        decoder_start_token_id=0, eos_token_id=None,
    )


def blip2(text):
    vision, qformer = Blip2VisionConfig(**VISION), Blip2QFormerConfig(**QFORMER)
    return Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=4, image_token_index=IMAGE
        )
    )


def llava():
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=CLIPVisionConfig(**VISION), text_config=llama(), image_token_index=IMAGE)
    )


def image_inputs(model, prompt):
    ids = torch.tensor([[IMAGE] * 4 + prompt])
    return {"input_ids": ids, "pixel_values": torch.ones(1, 3, 28, 28), "attention_mask": torch.ones_like(ids)}


def ids_and_embeddings(model, prompt):
    ids = torch.tensor([prompt])
    embeddings = model.get_input_embeddings()(ids)
    return {"input_ids": ids, "inputs_embeds": embeddings, "attention_mask": torch.ones_like(ids)}


def ids_alone(model, prompt):
    return {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}


CASES = {  # how the model is made, its inputs, and whether a repeated prompt is answered as without the lookup
    "BLIP-2 with OPT": (lambda: blip2(opt()), image_inputs, False),
    "BLIP-2 with T5": (lambda: blip2(t5()), image_inputs, True),
    "LLaVA": (llava, image_inputs, True),
    "Llama, ids and their embeddings": (lambda: LlamaForCausalLM(llama()), ids_and_embeddings, False),
    "Llama, ids": (lambda: LlamaForCausalLM(llama()), ids_alone, True),
}
print(f"transformers {transformers.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}")
same = True
for name, (make, inputs_of, right) in CASES.items():
    for kind, prompt in (("repeats", REPEATED), ("does not repeat", UNIQUE)):
        torch.manual_seed(0)
        model = make().eval()
        inputs = inputs_of(model, prompt)
        plain = model.generate(**inputs, do_sample=False, max_new_tokens=NEW)[0, -NEW:].tolist()
        lookup = model.generate(**inputs, do_sample=False, max_new_tokens=NEW, prompt_lookup_num_tokens=4)
        lookup = lookup[0, -NEW:].tolist()
        print(f"{name}, the prompt {kind}: {'the same tokens' if plain == lookup else f'{plain} became {lookup}'}")
        same = same and (plain == lookup) == (right or prompt is UNIQUE)
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
