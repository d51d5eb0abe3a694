"""Triton kernels of matrix products with few rows, which do little but read a weight once.

Depends on Triton. The sizes of a weight are arguments at run time, so that a kernel is compiled once for all weights.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def one_row_kernel(inputs, weight, output, outs, size, BLOCK_OUT: tl.constexpr, BLOCK_IN: tl.constexpr):
    """A program per block of outputs: output (outs,) = weight (outs, size) times inputs (size,). The next block of the
    weight is read while one is multiplied."""
    numbers = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    rows = weight + numbers.to(tl.int64)[:, None] * size
    known = (numbers < outs)[:, None]
    columns = tl.arange(0, BLOCK_IN)
    block = tl.load(rows + columns[None, :], mask=known & (columns < size)[None, :], other=0.0)
    totals = tl.zeros([BLOCK_OUT, BLOCK_IN], tl.float32)
    for _ in range(0, size, BLOCK_IN):
        part = tl.load(inputs + columns, mask=columns < size, other=0.0).to(tl.float32)
        columns += BLOCK_IN
        following = tl.load(rows + columns[None, :], mask=known & (columns < size)[None, :], other=0.0)
        totals += block.to(tl.float32) * part[None, :]
        block = following
    result = tl.sum(totals, 1).to(output.dtype.element_ty)
    tl.store(output + numbers, result, mask=numbers < outs)


@triton.jit(do_not_specialize=["count"])
def few_rows_kernel(
    inputs, weight, output, count, outs, size,
    BLOCK_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_IN: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A program per block of outputs: output (count, outs) = inputs (count, size) times the transpose of the weight."""
    numbers = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    rows = tl.arange(0, BLOCK_ROWS)
    lines = weight + numbers.to(tl.int64)[:, None] * size
    totals = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    for start in tl.range(0, size, BLOCK_IN, num_stages=STAGES):
        columns = start + tl.arange(0, BLOCK_IN)
        inside = columns < size
        read = (numbers < outs)[:, None] & inside[None, :]
        block = tl.load(lines + columns[None, :], mask=read, other=0.0, eviction_policy="evict_first")
        used = inside[:, None] & (rows < count)[None, :]
        part = tl.load(inputs + rows[None, :] * size + columns[:, None], mask=used, other=0.0)
        totals = tl.dot(block, part, totals)
    written = (numbers < outs)[:, None] & (rows < count)[None, :]
    address = output + rows.to(tl.int64)[None, :] * outs + numbers[:, None]
    tl.store(address, totals.to(output.dtype.element_ty), mask=written)
