"""The interfaces of fused decode steps, and of the operations that they consist of, which `triton_operations` has.

Every operation takes one new position per row, and depends on tensors only, so that a graph can capture it. Depends on
torch only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

ACTIVATIONS = {
    "relu": "relu", "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}  # fmt: skip
"""transformers' names of activation functions that the operations have, and ours."""


class UnsupportedModelError(Exception):
    """A language model has no fused step, for the reason in the message."""


Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, each (slots, key heads, capacity, width); row n uses slot n."""


class FusedStep(Protocol):
    """The decode step of a decoder-only model, with few kernels and without transformers' forward pass."""

    def step(self, ids: torch.Tensor, lengths: torch.Tensor, positions: torch.Tensor, layers: Layers) -> torch.Tensor:
        """The float32 logits (rows, vocabulary) of the token after `ids` (rows,), whose `positions` are (axes, rows).

        Each row attends to its first `lengths` (rows,) positions and to the new one, which is written after them.
        """


class FusedDecoderStep(Protocol):
    """The same for the decoder of an encoder-decoder model."""

    def step(
        self,
        ids: torch.Tensor,
        lengths: torch.Tensor,
        positions: torch.Tensor,
        layers: Layers,
        prompt_lengths: torch.Tensor,
        prompt_layers: Layers,
    ) -> torch.Tensor:
        """See `FusedStep`. Each row also attends to the first `prompt_lengths` (rows,) positions of its prompt."""


@dataclass(frozen=True, eq=False)
class Norm:
    """A layer norm, or an RMS norm if it is not `centred`. `weight` and `bias` are (hidden,)."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    epsilon: float
    centred: bool


@dataclass(frozen=True, eq=False)
class Projected:
    """The query (rows, heads, width) of one new position per row, and its key and value (rows, key heads, width), which
    are None for cross-attention. Biases that are not added yet are (heads, width) and (key heads, width)."""

    query: torch.Tensor
    key: torch.Tensor | None = None
    value: torch.Tensor | None = None
    query_bias: torch.Tensor | None = None
    key_bias: torch.Tensor | None = None
    value_bias: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Cached:
    """The keys and values (slots, key heads, capacity, width) of one layer, of which row n uses slot n, and how many
    positions each row attends to there, (rows,). For self-attention the new position comes after these."""

    keys: torch.Tensor
    values: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True, eq=False)
class Scores:
    """How scores are computed: q times k times `scale`, plus a bias if there is one.

    `slopes` (heads,) are ALiBi's, rounded as transformers does. `distances` (heads, n) is T5's bias for each distance
    from the new position, at `positions` (rows,), back to a key; a larger distance has the last one. `rotary` are
    cosine and sine, float32 (rows, width), by which query and key are rotated.
    """

    scale: float
    slopes: torch.Tensor | None = None
    distances: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    rotary: tuple[torch.Tensor, torch.Tensor] | None = None


class Operations(Protocol):
    """What a step consists of, besides the lookups of embeddings."""

    def add_weight(self, weight: torch.Tensor) -> None:
        """Know of a weight (out, in) of later products."""

    def product(self, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(rows, in) times the transpose of a weight (out, in)."""

    def add_norm(
        self, states: torch.Tensor, addend: torch.Tensor | None, bias: torch.Tensor | None, norm: Norm
    ) -> torch.Tensor:
        """Overwrite `states` (rows, hidden) by their sum with `addend` (rows, hidden) and `bias` (hidden,); return the
        norm of the sum."""

    def activate(self, states: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
        """The activation of `states` (rows, width) plus `bias` (width,); may overwrite the states."""

    def gate(self, states: torch.Tensor, activation: str) -> torch.Tensor:
        """The activation of the first half of each row, times the second half: (rows, 2 * width) to (rows, width)."""

    def attend(self, projected: Projected, cached: Cached, scores: Scores) -> torch.Tensor:
        """The attention of one new position per row, (rows, heads * width). Writes key and value of the new position at
        the end of the row's cached positions, and attends to them too."""
