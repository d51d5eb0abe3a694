"""The operations of a fused decode step as Triton kernels, with cuBLAS's products where these are the fastest.

Depends on Triton, so it is imported only where a step is fused. The caller makes the model's device the current one.
"""

from __future__ import annotations

import torch

from blip_space.models.fused import kernels
from blip_space.models.fused.measured_products import MeasuredProducts
from blip_space.models.fused.operations import Cached, Norm, Projected, Scores

PROGRAMS = 264
"""As many programs keep a large GPU busy: two for each of an H200's 132 multiprocessors."""

KEYS, STAGES = 32, 1
"""How many positions a program reads at once, and how many such blocks ahead."""

MAX_SPLITS = 16
ATTENTION_WARPS, NORM_WARPS, ACTIVATION_WARPS = 2, 8, 4
ACTIVATION_COLUMNS = 1024


class TritonOperations:
    """See `Operations`."""

    def __init__(self, device: torch.device) -> None:
        self._counters = torch.zeros(PROGRAMS, dtype=torch.int32, device=device)
        """How many parts of an attention are finished, for each row and head; zeros between kernels."""

        self._products = MeasuredProducts()

    def add_weight(self, weight: torch.Tensor) -> None:
        """See `Operations`."""
        self._products.add(weight)

    def product(self, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """See `Operations`."""
        return self._products(inputs, weight)

    def add_norm(
        self, states: torch.Tensor, addend: torch.Tensor | None, bias: torch.Tensor | None, norm: Norm
    ) -> torch.Tensor:
        """See `Operations`."""
        output, size = torch.empty_like(states), states.shape[1]
        kernels.add_norm_kernel[(len(states),)](
            states, addend, bias, norm.weight, norm.bias, output, norm.epsilon,
            SIZE=size, BLOCK=power_of_two(size), HAS_ADDEND=addend is not None, HAS_BIAS=bias is not None,
            CENTRED=norm.centred, HAS_SHIFT=norm.bias is not None, num_warps=NORM_WARPS,
        )  # fmt: skip
        return output

    def activate(self, states: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
        """See `Operations`."""
        rows, size = states.shape
        kernels.activate_kernel[(rows, -(-size // ACTIVATION_COLUMNS))](
            states, bias, SIZE=size, BLOCK=ACTIVATION_COLUMNS, HAS_BIAS=bias is not None, ACTIVATION=activation,
            num_warps=ACTIVATION_WARPS,
        )  # fmt: skip
        return states

    def gate(self, states: torch.Tensor, activation: str) -> torch.Tensor:
        """See `Operations`."""
        rows, size = len(states), states.shape[1] // 2
        output = states.new_empty(rows, size)
        kernels.gate_kernel[(rows, -(-size // ACTIVATION_COLUMNS))](
            states, output, SIZE=size, BLOCK=ACTIVATION_COLUMNS, ACTIVATION=activation, num_warps=ACTIVATION_WARPS,
        )  # fmt: skip
        return output

    def attend(self, projected: Projected, cached: Cached, scores: Scores) -> torch.Tensor:
        """See `Operations`."""
        query, key, keys = projected.query, projected.key, cached.keys
        rows, heads, width = query.shape
        _check_layout(projected, cached)
        splits = self._splits(rows * heads, keys.shape[2])
        block_width, output = power_of_two(width), query.new_empty(rows, heads * width)
        parts = rows * heads * splits if splits > 1 else 0
        sums, tops = (query.new_empty(parts, size, dtype=torch.float32) for size in (block_width, 2))
        cos, sin = scores.rotary or (None, None)
        table = scores.distances if scores.slopes is None else scores.slopes
        bias = None if table is None else "distances" if scores.slopes is None else "slopes"
        kernels.attend_kernel[(rows, heads, splits)](
            query, projected.query_bias, key, projected.key_bias, projected.value, projected.value_bias,
            keys, cached.values, cached.lengths, table, scores.positions, cos, sin, output, sums, tops, self._counters,
            scores.scale, query.stride(0), query.stride(1), key.stride(0) if key is not None else 0,
            key.stride(1) if key is not None else 0, keys.stride(0), keys.stride(1), splits,
            scores.distances.shape[1] if scores.distances is not None else 0,
            HEADS=heads, GROUP=heads // keys.shape[1], WIDTH=width, BLOCK_WIDTH=block_width, BLOCK=KEYS,
            MAX_SPLITS=MAX_SPLITS, STAGES=STAGES, IS_SPLIT=splits > 1, HAS_NEW=key is not None,
            HAS_BIAS=projected.query_bias is not None, ROTARY=scores.rotary is not None, BIAS=bias,
            num_warps=ATTENTION_WARPS,
        )  # fmt: skip
        return output

    def _splits(self, programs: int, capacity: int) -> int:
        """Into how many parts the positions of a row are divided, so that few rows keep a GPU busy too."""
        if programs > len(self._counters):
            return 1
        return max(1, min(PROGRAMS // programs, capacity // KEYS, MAX_SPLITS))


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()


def _check_layout(projected: Projected, cached: Cached) -> None:
    """Raise `ValueError` where a kernel would read other numbers than it is given."""
    query, key, value, width = projected.query, projected.key, projected.value, projected.query.shape[2]
    if cached.keys.stride() != cached.values.stride() or cached.keys.stride()[2:] != (width, 1):
        raise ValueError(f"keys and values have the strides {cached.keys.stride()} and {cached.values.stride()}")
    if key is not None and value is not None and (key.stride() != value.stride() or key.stride(2) != 1):
        raise ValueError(f"a new key and value have the strides {key.stride()} and {value.stride()}")
    pairs = ((query, projected.query_bias), (key, projected.key_bias), (value, projected.value_bias))
    if query.stride(2) != 1 or any(
        part is not None and bias is not None and part.stride()[1:] != bias.stride() for part, bias in pairs
    ):
        raise ValueError("a query and a bias have different strides")
