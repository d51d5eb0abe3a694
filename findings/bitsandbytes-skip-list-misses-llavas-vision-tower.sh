#!/usr/bin/env bash
# transformers 5.23.0, bitsandbytes 0.50.2: llm_int8_skip_modules=["vision_tower", "multi_modal_projector"], the usual
# list for quantising LLaVA and JoyCaption, protects no layer of a LLaVA. Its vision encoder and its projector are
# quantised without a warning.
#
# Since transformers 5 the modules are called `model.vision_tower…`. An entry of the list is matched against the start
# of a layer's full name, or against its entire last component; an entry in the middle of a name matches nothing. A
# regular expression that allows a prefix, r"(?:.*\.)?vision_tower", protects the module. The entry "lm_head" is the
# last component of a name and works in every form.
#
# Observed on 27 November 2026 with torch 2.13.0 (CPU), Python 3.11. Prints how many linear layers of each module are
# not quantised for three lists; exits non-zero if that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 \
    bitsandbytes==0.50.2 accelerate numpy pillow
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import bitsandbytes
import torch
import transformers
from transformers import BitsAndBytesConfig, LlavaConfig, LlavaForConditionalGeneration

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
print("torch", torch.__version__, "transformers", transformers.__version__, "bitsandbytes", bitsandbytes.__version__)
small = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
config = LlavaConfig(
    vision_config=dict(small, model_type="clip_vision_model", image_size=28, patch_size=14),
    text_config=dict(small, model_type="llama", vocab_size=64),
    image_token_index=63,
)
LlavaForConditionalGeneration(config).save_pretrained("checkpoint")

LISTS = {
    "bare names": ["vision_tower", "multi_modal_projector", "lm_head"],
    "full names": ["model.vision_tower", "model.multi_modal_projector", "lm_head"],
    "expressions": [r"(?:.*\.)?vision_tower", r"(?:.*\.)?multi_modal_projector", "lm_head"],
}
PARTS = ("model.vision_tower", "model.multi_modal_projector", "model.language_model", "lm_head")
counts = {}
for name, skipped in LISTS.items():
    network = LlavaForConditionalGeneration.from_pretrained(
        "checkpoint",
        dtype=torch.bfloat16,
        device_map={"": "cpu"},
        quantization_config=BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped),
    )
    linear = [(key, layer) for key, layer in network.named_modules() if isinstance(layer, torch.nn.Linear)]
    counts[name] = [
        (
            sum(key.startswith(part) and type(layer) is torch.nn.Linear for key, layer in linear),
            sum(key.startswith(part) for key, _ in linear),
        )
        for part in PARTS
    ]
    print(f"{name:12}", ", ".join(f"{part}: {kept} of {total}" for part, (kept, total) in zip(PARTS, counts[name])))
vision, projector, text = 12, 2, 14
expected = {
    "bare names": [(0, vision), (0, projector), (0, text), (1, 1)],
    "full names": [(vision, vision), (projector, projector), (0, text), (1, 1)],
    "expressions": [(vision, vision), (projector, projector), (0, text), (1, 1)],
}
sys.exit(0 if counts == expected else "this has changed")
PYTHON
