"""Triton kernels of a fused decode step. `triton_operations` calls them, `operations` says what they compute.

Depends on Triton, which torch's builds for CUDA on Linux bring. Numbers of rows, lengths and capacities are arguments
at run time, so that none of them compiles a kernel again.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1.0e30)
"""Below every score, and unlike minus infinity, its difference from itself is zero."""


@triton.jit
def add_norm_kernel(
    states, addend, bias, weight, shift, output, epsilon,
    SIZE: tl.constexpr, BLOCK: tl.constexpr, HAS_ADDEND: tl.constexpr, HAS_BIAS: tl.constexpr, CENTRED: tl.constexpr,
    HAS_SHIFT: tl.constexpr,
):  # fmt: skip
    """One program per row: states += addend + bias, and output = norm(states)."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < SIZE
    total = tl.load(states + row * SIZE + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_ADDEND:
        total += tl.load(addend + row * SIZE + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_ADDEND or HAS_BIAS:
        rounded = total.to(states.dtype.element_ty)
        tl.store(states + row * SIZE + columns, rounded, mask=inside)
        total = rounded.to(tl.float32)
    if CENTRED:
        total = tl.where(inside, total - tl.sum(total, 0) / SIZE, 0.0)
    scaled = total * tl.rsqrt(tl.sum(total * total, 0) / SIZE + epsilon)
    scale = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_SHIFT:
        scaled = scaled * scale + tl.load(shift + columns, mask=inside, other=0.0).to(tl.float32)
    else:
        scaled = scaled.to(output.dtype.element_ty).to(tl.float32) * scale
    tl.store(output + row * SIZE + columns, scaled.to(output.dtype.element_ty), mask=inside)


@triton.jit
def activated(states, ACTIVATION: tl.constexpr):
    """The activation of float32 numbers."""
    if ACTIVATION == "relu":
        result = tl.maximum(states, 0.0)
    elif ACTIVATION == "silu":
        result = states * tl.sigmoid(states)
    elif ACTIVATION == "gelu":
        result = 0.5 * states * (1.0 + tl.erf(states * 0.7071067811865476))
    else:  # tanh(x) = 2 sigmoid(2 x) - 1
        inner = 0.7978845608028654 * (states + 0.044715 * states * states * states)
        result = states * tl.sigmoid(2.0 * inner)
    return result


@triton.jit
def activate_kernel(
    states, bias, SIZE: tl.constexpr, BLOCK: tl.constexpr, HAS_BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    """A program per row and block: states = activation(states + bias), in place."""
    row, columns = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < SIZE
    total = tl.load(states + row * SIZE + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(states + row * SIZE + columns, activated(total, ACTIVATION).to(states.dtype.element_ty), mask=inside)


@triton.jit
def gate_kernel(states, output, SIZE: tl.constexpr, BLOCK: tl.constexpr, ACTIVATION: tl.constexpr):
    """A program per row and block: output = activation(first half of states) times the second half."""
    row, columns = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < SIZE
    first = tl.load(states + row * 2 * SIZE + columns, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(states + row * 2 * SIZE + SIZE + columns, mask=inside, other=0.0).to(tl.float32)
    opened = activated(first, ACTIVATION).to(output.dtype.element_ty).to(tl.float32)
    tl.store(output + row * SIZE + columns, (opened * second).to(output.dtype.element_ty), mask=inside)


@triton.jit
def load_head(
    part, bias, row_offset, head_offset, cos, sin, row, dims, inside,
    WIDTH: tl.constexpr, HAS_BIAS: tl.constexpr, ROTARY: tl.constexpr,
):  # fmt: skip
    """One head of one row in float32, with its bias, and rotated by the angles of the row."""
    numbers = tl.load(part + row_offset + head_offset + dims, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        numbers += tl.load(bias + head_offset + dims, mask=inside, other=0.0).to(tl.float32)
    if ROTARY:
        half: tl.constexpr = WIDTH // 2
        partner = tl.where(dims < half, dims + half, dims - half)
        other = tl.load(part + row_offset + head_offset + partner, mask=inside, other=0.0).to(tl.float32)
        if HAS_BIAS:
            other += tl.load(bias + head_offset + partner, mask=inside, other=0.0).to(tl.float32)
        cosine = tl.load(cos + row * WIDTH + dims, mask=inside, other=0.0)
        sine = tl.load(sin + row * WIDTH + dims, mask=inside, other=0.0)
        numbers = numbers * cosine + tl.where(dims < half, -other, other) * sine
    return numbers


@triton.jit
def score_bias(table, head, keys, position, distances, valid, BIAS: tl.constexpr, DTYPE: tl.constexpr):
    """The bias of the scores of `keys`: ALiBi's from the head's slope, or T5's from the distance to each key."""
    if BIAS == "slopes":
        bias = (tl.load(table + head) * keys.to(tl.float32)).to(DTYPE).to(tl.float32)
    else:
        distance = tl.minimum(tl.maximum(position - keys, 0), distances - 1)
        bias = tl.load(table + head * distances + distance, mask=valid, other=0.0).to(tl.float32)
    return bias


@triton.jit(do_not_specialize=["splits", "distances"])
def attend_kernel(
    query, query_bias, key, key_bias, value, value_bias, keys, values, lengths, table, positions, cos, sin, output,
    saved_sums, saved_tops, counters, scale, query_row, query_head, new_row, new_head, slot_stride, head_stride, splits,
    distances,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    MAX_SPLITS: tl.constexpr, STAGES: tl.constexpr, IS_SPLIT: tl.constexpr, HAS_NEW: tl.constexpr,
    HAS_BIAS: tl.constexpr, ROTARY: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """A program per row, head and part of the row's positions; the last part to finish adds the others.

    The softmax is computed as the keys are read, for each key of a block on its own: `tops` are the highest scores so
    far, `totals` the sums of the weights relative to them, `mixed` the values by these weights. So threads do not wait
    for each other before the end.
    """
    row, head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    dims = tl.arange(0, BLOCK_WIDTH)
    inside = dims < WIDTH
    asked = (
        load_head(
            query, query_bias, row * query_row, head * query_head, cos, sin, row, dims, inside, WIDTH, HAS_BIAS, ROTARY
        )
        * scale
    )
    length = tl.load(lengths + row).to(tl.int32)
    position = length
    if BIAS == "distances":
        position = tl.load(positions + row).to(tl.int32)
    start = row * slot_stride + (head // GROUP).to(tl.int64) * head_stride
    tops = tl.full([BLOCK], LOWEST, tl.float32)
    totals = tl.zeros([BLOCK], tl.float32)
    mixed = tl.zeros([BLOCK, BLOCK_WIDTH], tl.float32)
    part = tl.cdiv(tl.cdiv(length, splits), BLOCK) * BLOCK
    until = tl.minimum((split + 1) * part, length)
    for begin in tl.range(split * part, until, BLOCK, num_stages=STAGES):
        numbers = begin + tl.arange(0, BLOCK)
        valid = numbers < until
        offsets = start + numbers[:, None] * WIDTH + dims[None, :]
        read = valid[:, None] & inside[None, :]
        block_keys = tl.load(keys + offsets, mask=read, other=0.0)
        block_values = tl.load(values + offsets, mask=read, other=0.0)
        scores = tl.sum(asked[None, :] * block_keys.to(tl.float32), 1)
        if BIAS is not None:
            scores += score_bias(table, head, numbers, position, distances, valid, BIAS, keys.dtype.element_ty)
        scores = tl.where(valid, scores, float("-inf"))
        highest = tl.maximum(tops, scores)
        weights = tl.exp(scores - highest)
        fade = tl.exp(tops - highest)
        totals = totals * fade + weights
        mixed = mixed * fade[:, None] + weights[:, None] * block_values.to(tl.float32)
        tops = highest
    top = tl.max(tops, 0)
    shares = tl.exp(tops - top)
    total = tl.sum(totals * shares, 0)
    merged = tl.sum(mixed * shares[:, None], 0)
    if HAS_NEW:
        own = (head // GROUP) * new_head
        new = load_head(key, key_bias, row * new_row, own, cos, sin, row, dims, inside, WIDTH, HAS_BIAS, ROTARY).to(
            keys.dtype.element_ty
        )
        added = load_head(
            value, value_bias, row * new_row, own, cos, sin, row, dims, inside, WIDTH, HAS_BIAS, False
        ).to(values.dtype.element_ty)
        is_first = split == 0
        end = start + length.to(tl.int64) * WIDTH
        writes = dims < tl.where(is_first & (head % GROUP == 0), WIDTH, 0)
        tl.store(keys + end + dims, new, mask=writes)
        tl.store(values + end + dims, added, mask=writes)
        score = tl.sum(asked * new.to(tl.float32), 0)
        if BIAS is not None:
            score += score_bias(table, head, length, position, distances, True, BIAS, keys.dtype.element_ty)
        score = tl.where(is_first, score, float("-inf"))
        highest = tl.maximum(top, score)
        weight = tl.exp(score - highest)
        fade = tl.exp(top - highest)
        total = total * fade + weight
        merged = merged * fade + weight * added.to(tl.float32)
        top = highest
    result = output + (row * HEADS + head) * WIDTH + dims
    if not IS_SPLIT:
        tl.store(result, (merged / total).to(output.dtype.element_ty), mask=inside)
    else:
        own_part = (row * HEADS + head) * splits
        tl.store(saved_sums + (own_part + split) * BLOCK_WIDTH + dims, merged)
        tl.store(saved_tops + 2 * (own_part + split), top)
        tl.store(saved_tops + 2 * (own_part + split) + 1, total)
        tl.debug_barrier()  # so that the stores of all threads come before the counter
        finished = tl.atomic_add(counters + row * HEADS + head, 1, sem="acq_rel")
        if finished == splits - 1:
            tl.debug_barrier()
            parts = tl.arange(0, MAX_SPLITS)
            known = parts < splits
            part_tops = tl.load(saved_tops + 2 * (own_part + parts), mask=known, other=LOWEST, volatile=True)
            part_totals = tl.load(saved_tops + 2 * (own_part + parts) + 1, mask=known, other=0.0, volatile=True)
            part_shares = tl.where(known, tl.exp(part_tops - tl.max(part_tops, 0)), 0.0)
            addresses = saved_sums + (own_part + parts)[:, None] * BLOCK_WIDTH + dims[None, :]
            part_sums = tl.load(addresses, mask=known[:, None] & inside[None, :], other=0.0, volatile=True)
            whole = tl.sum(part_shares[:, None] * part_sums, 0) / tl.sum(part_shares * part_totals, 0)
            tl.store(result, whole.to(output.dtype.element_ty), mask=inside)
            tl.store(counters + row * HEADS + head, 0)
