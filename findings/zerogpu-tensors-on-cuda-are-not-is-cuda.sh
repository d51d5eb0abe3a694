#!/usr/bin/env bash
# Versions: spaces==0.51.3, torch==2.11.0, numpy==2.3.5, Python 3.11.
#
# spaces 0.51.3, the package of ZeroGPU Spaces, with torch 2.11.0: outside a function with @spaces.GPU, where there is
# no GPU, `tensor.to("cuda")` gives a tensor whose `device` is cuda:0 and whose `is_cuda` is False. Models run there
# without an error, on the processor.
#
# The package keeps such tensors in main memory and replaces what torch reports of them, but not `is_cuda`. So a check
# of `device.type` and one of `is_cuda` disagree about the same tensor, `torch.cuda.is_available()` is True, `numpy()`
# works although it refuses tensors of a GPU, and an operation with a tensor of the processor is refused as on a real
# GPU. A call that was meant to be decorated is therefore slow and not an error; other parts of torch.cuda (a stream, a
# generator) do raise.
#
# SPACES_ZERO_GPU is set as in such a Space; nothing decorated is called, so the address of its scheduler is not used.
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check spaces==0.51.3 torch==2.11.0 numpy==2.3.5
export SPACES_ZERO_GPU=true SPACES_ZERO_DEVICE_API_URL=http://127.0.0.1:9 CUDA_VISIBLE_DEVICES=
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import spaces  # noqa: F401  (before torch, as its documentation asks)
import torch


def outcome(action):
    try:
        return str(action())
    except RuntimeError as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"


tensor = torch.ones(2).to("cuda")
linear = torch.nn.Linear(2, 1).to("cuda")
results = {
    "torch.cuda.is_available()": outcome(torch.cuda.is_available),
    "tensor.device": outcome(lambda: tensor.device),
    "tensor.is_cuda": outcome(lambda: tensor.is_cuda),
    "tensor.numpy()": outcome(tensor.numpy),
    "linear(tensor).device": outcome(lambda: linear(tensor).device),
    "tensor + torch.ones(2)": outcome(lambda: tensor + torch.ones(2)),
}
print(f"spaces {version('spaces')}, torch {torch.__version__}, Python {sys.version.split()[0]}")
for name, result in results.items():
    print(f"{name}: {result}")
expected = ["True", "cuda:0", "False", "[1. 1.]", "cuda:0", "RuntimeError: Expected all tensors to be on the same"]
same = all(result.startswith(start) for result, start in zip(results.values(), expected, strict=True))
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
