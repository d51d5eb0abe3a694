"""Chooses the fastest way to multiply few rows with a weight, measured on this device: cuBLAS or a kernel of ours.

cuBLAS reads a weight at 60 % of a GPU's bandwidth where there is one row. Which kernel is faster depends on the GPU, on
the weight's shape and on the number of rows, so each is measured when it is first used, before anything is captured,
and only a kernel that computes what cuBLAS does is used. Depends on Triton.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch.nn import functional

from blip_space.models.capturing import without_collector
from blip_space.models.fused import product_kernels

log = logging.getLogger(__name__)

Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Inputs (rows, in) and a weight (out, in) to (rows, out)."""

MAX_ROWS = 16
"""With more rows cuBLAS always multiplies."""

MEASURED_BYTES = 300_000_000
"""So many bytes of different weights are read, so that they do not come from a GPU's cache."""

REPEATS = 4
MIN_GAIN = 1.05
"""A kernel is used if it is so many times as fast as cuBLAS."""

TOLERANCE = 2e-2
"""How much a result may differ from cuBLAS's, relative to the largest number."""

ONE_ROW = ((8, 512, 4), (4, 1024, 4), (2, 2048, 4))
"""Outputs and inputs of a block, and warps."""

FEW_ROWS = ((16, 256, 4, 4), (32, 256, 4, 4), (64, 128, 5, 4))
"""The same with the number of blocks that are read ahead in between."""


class MeasuredProducts:
    """Multiplies rows with weights; what is fastest for each number of rows and each shape is measured once."""

    def __init__(self, measure: Callable[[Callable[[], None]], float] | None = None) -> None:
        """`measure` takes what is to be timed, and returns seconds."""
        self._measure = measure or graph_seconds
        self._weights: defaultdict[tuple[int, ...], list[torch.Tensor]] = defaultdict(list)
        self._chosen: dict[tuple[int, ...], Multiply] = {}

    def add(self, weight: torch.Tensor) -> None:
        """Measure with this weight, among others of its shape."""
        self._weights[tuple(weight.shape)].append(weight)

    def __call__(self, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(rows, in) times the transpose of a weight (out, in)."""
        key = (len(inputs), *weight.shape)
        chosen = self._chosen.get(key)
        if chosen is None:
            if inputs.is_cuda and torch.cuda.is_current_stream_capturing():
                return functional.linear(inputs, weight)
            with without_collector():
                chosen = self._chosen[key] = self._fastest(inputs, weight)
        return chosen(inputs, weight)

    def _fastest(self, inputs: torch.Tensor, weight: torch.Tensor) -> Multiply:
        candidates = kernels_for(len(inputs), weight)
        if not candidates:
            return functional.linear
        weights = self._weights[tuple(weight.shape)] or [weight]
        weights = weights[: max(1, MEASURED_BYTES // weight.nbytes)]
        expected = functional.linear(inputs, weight)
        allowed = TOLERANCE * max(1e-3, float(expected.abs().max()))
        best: Multiply = functional.linear
        limit = self._seconds(best, inputs, weights) / MIN_GAIN
        for name, candidate in candidates.items():
            try:
                error = float((candidate(inputs, weight) - expected).abs().max())
                seconds = self._seconds(candidate, inputs, weights)
            except Exception as problem:  # such as a GPU with too little shared memory
                log.info("the product kernel %s is not used: %s", name, problem)
                continue
            if not error <= allowed:
                log.warning("the product kernel %s differs from cuBLAS by %.2g and is not used", name, error)
                continue
            if seconds < limit:
                best, limit = candidate, seconds
        return best

    def _seconds(self, multiply: Multiply, inputs: torch.Tensor, weights: list[torch.Tensor]) -> float:
        def all_weights() -> None:
            for weight in weights:
                multiply(inputs, weight)

        return self._measure(all_weights)


def kernels_for(rows: int, weight: torch.Tensor) -> dict[str, Multiply]:
    """The kernels that may be faster than cuBLAS, by a name."""
    if rows > MAX_ROWS or not weight.is_contiguous():
        return {}
    kernels: dict[str, Multiply] = {}
    if rows == 1:
        kernels |= {f"one row, {sizes}": partial(one_row, sizes=sizes) for sizes in ONE_ROW}
    if weight.dtype != torch.float32:  # tensor cores would round it to TF32
        kernels |= {f"few rows, {sizes}": partial(few_rows, sizes=sizes) for sizes in FEW_ROWS}
    return kernels


def one_row(inputs: torch.Tensor, weight: torch.Tensor, sizes: tuple[int, int, int]) -> torch.Tensor:
    """The product of one row by `one_row_kernel`."""
    (out, size), (block_out, block_in, warps) = weight.shape, sizes
    output = inputs.new_empty(1, out)
    product_kernels.one_row_kernel[(-(-out // block_out),)](
        inputs, weight, output, out, size, BLOCK_OUT=block_out, BLOCK_IN=block_in, num_warps=warps
    )
    return output


def few_rows(inputs: torch.Tensor, weight: torch.Tensor, sizes: tuple[int, int, int, int]) -> torch.Tensor:
    """The product of up to 16 rows by `few_rows_kernel`."""
    (out, size), (block_out, block_in, stages, warps) = weight.shape, sizes
    output = inputs.new_empty(len(inputs), out)
    product_kernels.few_rows_kernel[(-(-out // block_out),)](
        inputs.contiguous(), weight, output, len(inputs), out, size,
        BLOCK_ROWS=MAX_ROWS, BLOCK_OUT=block_out, BLOCK_IN=block_in, STAGES=stages, num_warps=warps,
    )  # fmt: skip
    return output


def graph_seconds(function: Callable[[], None]) -> float:
    """The seconds that a GPU works for a call, without the time in which Python launches it."""
    function()
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]  # torch has no types here
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        function()
        graph.capture_end()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(REPEATS + 1)]  # type: ignore[no-untyped-call]  # torch has no types here
        graph.replay()
        for number, event in enumerate(events):
            if number:
                graph.replay()
            event.record(stream)
        stream.synchronize()
    milliseconds = [first.elapsed_time(second) for first, second in pairwise(events)]
    return float(min(milliseconds)) / 1000
