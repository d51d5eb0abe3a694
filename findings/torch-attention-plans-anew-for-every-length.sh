#!/usr/bin/env bash
# Versions: torch==2.11.0, numpy==2.3.5 (CUDA 13.0, cuDNN 9.19.0), Python 3.12.
#
# torch 2.11.0 (CUDA 13.0, cuDNN 9.19.0): on a Hopper GPU, scaled_dot_product_attention takes some 40 ms for the first call
# of every new length, and 0.1 ms for the next one: it prefers cuDNN, which makes a plan for each length. In a decode loop
# every step has a new length, so every step waits for a plan. With torch.backends.cuda.enable_cudnn_sdp(False) the first
# call of a length takes 0.03 ms, as every other one.
#
# Observed on 27 November 2026 with torch 2.11.0 (CUDA 13.0, cuDNN 9.19), Python 3.12, on an NVIDIA H200 with driver
# 580.159.04: 41.37 and 0.12 ms by default, 0.03 and 0.03 ms without cuDNN's attention. A benchmark that repeats one
# length does not show it.
#
# Needs a Hopper GPU. Prints both times with and without cuDNN's attention; exits non-zero if that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.11.0 numpy==2.3.5

"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import time

import torch

print("torch", torch.__version__, "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version())
if not torch.cuda.is_available():
    sys.exit("this needs a CUDA GPU")
print(torch.cuda.get_device_name())


def milliseconds(length):
    """One attention of one new position to `length` positions, as in a decode step."""
    query, keys, values = (torch.randn(1, 32, n, 80, dtype=torch.bfloat16, device="cuda") for n in (1, length, length))
    torch.cuda.synchronize()
    started = time.perf_counter()
    torch.nn.functional.scaled_dot_product_attention(query, keys, values)
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - started)


def medians(lengths):
    """Of the first call for each length, and of the second."""
    for length in (50, 51, 52):
        milliseconds(length)
    pairs = [(milliseconds(length), milliseconds(length)) for length in lengths]
    return [statistics.median(side) for side in zip(*pairs)]


results = {}
for name, enabled in (("by default", True), ("without cuDNN's attention", False)):
    torch.backends.cuda.enable_cudnn_sdp(enabled)
    results[name] = medians(range(100, 130))
    print(f"{name}: first call of a length {results[name][0]:.2f} ms, second {results[name][1]:.2f} ms")
(first, second), (first_without, second_without) = results.values()
same = first > 50 * second and first_without < 5 * second_without
print("as described above" if same else "this has changed")
sys.exit(0 if same else 1)
PYTHON
