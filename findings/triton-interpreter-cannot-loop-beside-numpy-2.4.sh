#!/usr/bin/env bash
# Versions: triton==3.6.0, torch==2.13.0, numpy==2.3.5 and numpy==2.4.6, Python 3.11.
#
# Triton 3.6.0 beside NumPy 2.4.6: the interpreter refuses a loop whose end was loaded from memory,
# TypeError('only 0-dimensional arrays can be converted to Python scalars'). Beside NumPy 2.3.5 the same kernel works, and
# so does the compiled one on a GPU.
#
# Observed on 27 November 2026 with Triton 3.6.0, torch 2.13.0, NumPy 2.3.5 and 2.4.6, Python 3.11, on an x86-64
# processor. The interpreter keeps a scalar as a NumPy array of shape (1,), and makes a Python index of it with int().
# That was deprecated in NumPy 1.25 for arrays with dimensions, and is an error since 2.4. Kernels that attend to as many
# keys as a row has loop like this, so tests on machines without a GPU, which only the interpreter can run, fail.
#
# Prints the result beside each NumPy; exits non-zero if that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 triton==3.6.0 numpy==2.3.5

cat >"$folder/kernel.py" <<'PYTHON'
import sys

import numpy
import torch
import triton
import triton.language as tl


@triton.jit
def add_first(numbers, length, total):
    count = tl.load(length)
    result = 0.0
    for index in range(0, count):
        result += tl.load(numbers + index)
    tl.store(total, result)


total = torch.zeros(1)
try:
    add_first[(1,)](torch.arange(8.0), torch.tensor([5]), total)
    result = f"the sum is {total.item():g}"
except Exception as error:
    result = str(error).strip().splitlines()[-1]
print(f"Triton {triton.__version__}, NumPy {numpy.__version__}, torch {torch.__version__}: {result}")
sys.exit(0 if sys.argv[1] in result else 1)
PYTHON

run() { # the part of the result that is as described above
  TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/kernel.py" "$1" || { echo "this has changed"; exit 1; }
}
run "the sum is 10"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6
run "only 0-dimensional arrays can be converted to Python scalars"
echo "as described above"
