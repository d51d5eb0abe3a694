#!/usr/bin/env bash
# Versions: torch==2.11.0, numpy==2.3.5 (CUDA 13.0), Python 3.12.
#
# torch 2.11.0 (CUDA 13.0): after the capture of a CUDA graph has failed, every use of torch's random numbers on that GPU
# raises "Offset increment outside graph capture encountered unexpectedly", with or without graphs, until another capture
# succeeds.
#
# Observed on 27 November 2026 with torch 2.11.0 (CUDA 13.0), Python 3.12, on an NVIDIA H200 with driver 580.159.04. A
# capture puts the GPU's generator into a state in which its offset is counted by the graph. The end of a capture that
# failed raises before it takes this state back. So a program that falls back to eager work after a failed capture still
# fails at its next dropout, randn or normal_, far from the cause. Capturing any one operation afterwards ends the state.
#
# Needs a CUDA GPU. Prints what works before and after; exits non-zero if that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.11.0 numpy==2.3.5

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch

print("torch", torch.__version__, "CUDA", torch.version.cuda)
if not torch.cuda.is_available():
    sys.exit("this needs a CUDA GPU")
print(torch.cuda.get_device_name())


def attempt(function):
    """The first line of the error, or "works"."""
    try:
        function()
        torch.cuda.synchronize()
    except Exception as error:
        return str(error).partition("\n")[0]
    return "works"


def capture_what_cannot_be_captured():
    graph = torch.cuda.CUDAGraph()
    numbers = torch.ones(4, device="cuda")
    with torch.cuda.graph(graph):
        (numbers + 1).sum().item()  # waits for the GPU, which a capture does not allow


def capture_one_addition():
    graph = torch.cuda.CUDAGraph()
    numbers = torch.ones(4, device="cuda")
    with torch.cuda.graph(graph):
        numbers + 1
    graph.replay()


def random_numbers():
    torch.randn(4, device="cuda")


results = {
    "random numbers before": attempt(random_numbers),
    "a capture that fails": attempt(capture_what_cannot_be_captured),
    "an addition after it": attempt(lambda: torch.ones(4, device="cuda") + 1),
    "random numbers after it": attempt(random_numbers),
    "dropout after it": attempt(lambda: torch.nn.functional.dropout(torch.ones(4, device="cuda"))),
    "a capture that succeeds": attempt(capture_one_addition),
    "random numbers after that": attempt(random_numbers),
}
for name, result in results.items():
    print(f"{name}: {result}")
unexpected = "Offset increment outside graph capture encountered unexpectedly."
same = results == {
    "random numbers before": "works",
    "a capture that fails": results["a capture that fails"],
    "an addition after it": "works",
    "random numbers after it": unexpected,
    "dropout after it": unexpected,
    "a capture that succeeds": "works",
    "random numbers after that": "works",
}
print("as described above" if same else "this has changed")
sys.exit(0 if same else 1)
PYTHON
