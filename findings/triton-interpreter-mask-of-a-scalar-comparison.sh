#!/usr/bin/env bash
# Triton 3.9.0's interpreter refuses a mask that combines a comparison of a block with one of a scalar, such as the number
# of the program: ValueError('mask has unsupported dtype'). Triton 3.8.0's interpreter takes it, and so do the compilers
# of both.
#
# Observed on 27 November 2026 with Triton 3.8.0 and 3.9.0, torch 2.13.0, NumPy 2.4.6, Python 3.11, on an x86-64 processor.
# The combination has integers of 32 bits in place of booleans, and the interpreter of 3.9 checks what it stores with. So
# a kernel in which only one program of several may write fails where there is no GPU. Where the scalar decides about a
# bound instead, as in `columns < tl.where(is_first, 5, 0)`, both take it.
#
# Prints the result of each version; exits non-zero if that has changed.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 triton==3.8.0 numpy==2.4.6

cat >"$folder/kernel.py" <<'PYTHON'
import sys

import torch
import triton
import triton.language as tl


@triton.jit
def first_writes(output, BOUND: tl.constexpr):
    columns = tl.arange(0, 8)
    is_first = tl.program_id(0) == 0
    if BOUND:
        mask = columns < tl.where(is_first, 5, 0)
    else:
        mask = (columns < 5) & is_first
    tl.store(output + columns, tl.zeros([8], tl.float32) + 1.0, mask=mask)


def result(bound):
    output = torch.zeros(8)
    try:
        first_writes[(2,)](output, bound)
        return f"{int(output.sum())} numbers are written"
    except Exception as error:
        return str(error).strip().splitlines()[-1]


combined, bound = result(False), result(True)
print(f"Triton {triton.__version__}: a mask of both: {combined}; a bound: {bound}")
sys.exit(0 if (combined, bound) == (sys.argv[1], "5 numbers are written") else 1)
PYTHON

run() { # what is described above of a mask of both
  TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/kernel.py" "$1" || { echo "this has changed"; exit 1; }
}
run "5 numbers are written"
"$folder/venv/bin/pip" install --quiet triton==3.9.0
run "ValueError('mask has unsupported dtype')"
echo "as described above"
