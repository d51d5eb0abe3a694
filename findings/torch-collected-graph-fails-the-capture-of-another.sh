#!/usr/bin/env bash
# Versions: torch==2.11.0, numpy==2.3.5 (CUDA 13.0), Python 3.12.
#
# torch 2.11.0 (CUDA 13.0): if Python's garbage collector happens to free a CUDA graph while another one is captured, that
# capture fails: "operation failed due to a previous error during capture". So captures fail at random in a program that
# has dropped a model with graphs and captures those of the next.
#
# Observed on 27 November 2026 with torch 2.11.0 (CUDA 13.0), Python 3.12, on an NVIDIA H200 with driver 580.159.04. To
# free a graph is an operation that CUDA does not permit while the thread captures ("function reset" in torch's warning),
# in the modes "global", which is torch's default, and "thread_local"; in the mode "relaxed" it works. torch.cuda.graph
# leaves the collector on. Most models and engines refer to themselves somewhere, so only the collector frees them.
#
# The script runs the collector at the worst moment, where it may run by itself. Needs a CUDA GPU. Prints what happens in
# each mode; exits non-zero if that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.11.0 numpy==2.3.5

"$folder/venv/bin/python" - <<'PYTHON'
import gc
import sys

import torch

print("torch", torch.__version__, "CUDA", torch.version.cuda)
if not torch.cuda.is_available():
    sys.exit("this needs a CUDA GPU")
print(torch.cuda.get_device_name())
gc.disable()  # so that it is this script that decides when garbage is collected
numbers = torch.ones(4, device="cuda")


def capture(between=lambda: None):
    """A graph of two additions; `between` runs after the first."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode=mode):
        numbers + 1
        between()
        numbers + 2
    graph.replay()
    torch.cuda.synchronize()
    return graph


def attempt(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return "works"


class Model:
    """Something that refers to itself, as most modules and engines do somewhere, and has a graph."""

    def __init__(self):
        self.itself, self.graph = self, capture()


results = {}
for mode in ("thread_local", "global", "relaxed"):
    alone = attempt(capture)
    Model()  # nothing refers to it any more, but only the collector frees it
    beside = attempt(lambda: capture(gc.collect))
    torch.cuda.synchronize()
    after = attempt(capture)
    results[mode] = [result.partition(":")[0] for result in (alone, beside, after)]
    print(f"{mode}: alone {alone}; while a graph is collected: {beside}; afterwards: {after}")
fails = ["works", "AcceleratorError", "works"]
same = results == {"thread_local": fails, "global": fails, "relaxed": ["works"] * 3}
print("as described above" if same else "this has changed")
sys.exit(0 if same else 1)
PYTHON
