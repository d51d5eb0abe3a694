#!/usr/bin/env bash
# transformers 5.23.0 silently accepts `model(..., cache=cache)` and neither reads nor writes the cache: the step after
# a prompt is computed as if there were no prompt. 5.24.0 calls the argument `cache`, so a decoding loop that was
# written for 5.24 runs on 5.23 with wrong results; a loop that was written for 5.23 is right on 5.24, with a
# FutureWarning for every call.
#
# Observed on 27 November 2026 with torch 2.13.0, Python 3.11. OPT, Llama, LLaVA and T5 pass unknown keyword arguments
# (**kwargs), layer by layer, to attention functions that ignore them. BLOOM does so too, and fails only because of the
# shape of its mask: "The expanded size of the tensor (1) must match the existing size (5)".
#
# Both versions, one after the other: a prompt of four tokens with a cache, then one more token, against a forward pass
# over all five. Prints versions, the largest difference of the logits and the length of the cache; exits non-zero if
# that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/steps.py" <<'PYTHON'
import sys
import warnings

import torch
import transformers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
print("torch", torch.__version__, "transformers", transformers.__version__)
WIDTH = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
IDS = torch.tensor([[2, 5, 6, 7, 9]])
llama = LlamaConfig(**WIDTH, intermediate_size=64, initializer_range=0.3)
vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                          image_size=28, patch_size=14)
MODELS = {
    "OPT": lambda: OPTForCausalLM(OPTConfig(**WIDTH, word_embed_proj_dim=32, ffn_dim=64, init_std=0.3)),
    "Llama": lambda: LlamaForCausalLM(llama),
    "LLaVA": lambda: LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=llama, image_token_index=63)
    ),
    "T5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=64, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, initializer_factor=4.0)
    ),
    "BLOOM": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.3)
    ),
}


def step(name, argument):
    """Whether one model's step is right with one name of the argument, and the details."""
    torch.manual_seed(0)
    model, cache = MODELS[name]().eval(), DynamicCache()
    encoder_inputs, ids_name, argument_value = {}, "input_ids", cache
    if name == "T5":
        encoder_inputs, ids_name = {"input_ids": torch.tensor([[8, 9, 10, 1]])}, "decoder_input_ids"
        argument_value = EncoderDecoderCache(cache, DynamicCache())
    with torch.inference_mode(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FutureWarning)
        at_once = model(**encoder_inputs, **{ids_name: IDS}, use_cache=False).logits[:, -1]
        try:
            model(**encoder_inputs, **{ids_name: IDS[:, :4], argument: argument_value}, use_cache=True)
            mask = {} if name == "T5" else {"attention_mask": torch.ones_like(IDS)}
            step_inputs = {ids_name: IDS[:, 4:], argument: argument_value}
            stepped = model(**encoder_inputs, **mask, **step_inputs, use_cache=True).logits[:, -1]
        except RuntimeError as error:
            return f"{type(error).__name__}", str(error)[:76]
    difference = (at_once - stepped).abs().max().item()
    warned = any(issubclass(warning.category, FutureWarning) and argument in str(warning.message) for warning in caught)
    verdict = "right" if difference < 1e-3 else "wrong"
    verdict += " with a warning" if warned else " without a warning"
    return verdict, f"off by {difference:.4f}, {cache.get_seq_length()} positions in the cache"


swallowed = transformers.__version__ == "5.23.0"
own, other = ("past_key_values", "cache") if swallowed else ("cache", "past_key_values")
same = True
for name in MODELS:
    for argument in (own, other):
        verdict, detail = step(name, argument)
        if argument == own:
            expected = "right without a warning"
        elif not swallowed:
            expected = "right with a warning"
        else:
            expected = "RuntimeError" if name == "BLOOM" else "wrong without a warning"
        same = same and verdict == expected
        print(f"{name:6} {argument:16} {verdict}: {detail}")
print("as described above" if same else "this has changed")
sys.exit(0 if same else 1)
PYTHON
for version in 5.23.0 5.24.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==$version
    "$folder/venv/bin/python" "$folder/steps.py"
done
