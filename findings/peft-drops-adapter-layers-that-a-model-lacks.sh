#!/usr/bin/env bash
# Versions: peft==0.21.2, transformers==5.23.0, torch==2.13.0, Python 3.11.
#
# peft 0.21.2: `PeftModel.from_pretrained` drops the layers of an adapter that the model does not have, without a
# warning and even if they are half of it. Layers that are missing in the adapter do give a warning.
#
# So the adapter of a deeper model of the same width loads onto a shallower one as if it belonged to it, and half an
# adapter answers. `load_adapter` does not warn either, but returns the dropped names as `unexpected_keys`;
# `from_pretrained` returns the model, and warns about `missing_keys` alone.
#
# Adapters of Llamas with random weights. Needs Python 3.10 to 3.13 with venv, and a package index. Exits with 0 if this
# is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check peft==0.21.2 transformers==5.23.0 torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" -W ignore::FutureWarning - <<'PYTHON'
import sys
import warnings

import peft
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

IDS = torch.tensor([[5, 6, 7]])


def llama(layers):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, num_attention_heads=2, intermediate_size=64, num_hidden_layers=layers
    )
    return LlamaForCausalLM(config).eval()


def loaded(adapter_layers, model_layers):
    """The numbers of stored and dropped tensors, whether the logits change, and the warnings about keys."""
    folder = f"adapter{adapter_layers}"
    config = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(llama(adapter_layers), config).save_pretrained(folder)
    plain = llama(model_layers)(IDS).logits
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(llama(model_layers), folder)
    about_keys = [str(warning.message) for warning in caught if "keys" in str(warning.message)]
    dropped = len(model.load_adapter(folder, adapter_name="again").unexpected_keys)
    changes = not torch.equal(model(IDS).logits, plain)
    return len(peft.load_peft_weights(folder)), dropped, changes, [message[:45] for message in about_keys]


print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
results = {}
for adapter_layers, model_layers in ((2, 2), (4, 2), (2, 4)):
    stored, dropped, changes, messages = results[adapter_layers, model_layers] = loaded(adapter_layers, model_layers)
    print(
        f"an adapter of {adapter_layers} layers on a model of {model_layers}: {stored} tensors, {dropped} dropped, "
        f"the logits {'change' if changes else 'stay'}, {messages or 'no warning'}"
    )
expected = {
    (2, 2): (4, 0, True, []),
    (4, 2): (8, 4, True, []),
    (2, 4): (4, 0, True, ["Found missing adapter keys while loading the "]),
}
print("as described" if results == expected else "this has changed")
sys.exit(results != expected)
PYTHON
