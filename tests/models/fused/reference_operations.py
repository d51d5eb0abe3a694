"""The operations of a fused decode step in plain torch: what the kernels must compute.

Depends on torch only.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from blip_space.models.fused.operations import Cached, Norm, Projected, Scores


class ReferenceOperations:
    """See `Operations`. Computes in float32 and rounds each result once."""

    def add_weight(self, weight: torch.Tensor) -> None:
        """See `Operations`."""

    def product(self, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """See `Operations`."""
        return functional.linear(inputs, weight)

    def add_norm(
        self, states: torch.Tensor, addend: torch.Tensor | None, bias: torch.Tensor | None, norm: Norm
    ) -> torch.Tensor:
        """See `Operations`."""
        total = states.float()
        for part in (addend, bias):
            if part is not None:
                total = total + part.float()
        states.copy_(total)
        total = states.float()
        if norm.centred:
            total = total - total.mean(-1, keepdim=True)
        scaled = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + norm.epsilon)
        if norm.bias is None:
            return norm.weight * scaled.to(states.dtype)
        return (scaled * norm.weight.float() + norm.bias.float()).to(states.dtype)

    def activate(self, states: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
        """See `Operations`."""
        total = states.float() if bias is None else states.float() + bias.float()
        return _activated(total, activation).to(states.dtype)

    def gate(self, states: torch.Tensor, activation: str) -> torch.Tensor:
        """See `Operations`."""
        first, second = states.float().chunk(2, dim=-1)
        return (_activated(first, activation).to(states.dtype).float() * second).to(states.dtype)

    def attend(self, projected: Projected, cached: Cached, scores: Scores) -> torch.Tensor:
        """See `Operations`."""
        rows, heads, width = projected.query.shape
        query = _rotated(_biased(projected.query, projected.query_bias), scores)
        lengths = cached.lengths
        if projected.key is not None and projected.value is not None:
            key = _rotated(_biased(projected.key, projected.key_bias), scores)
            slots = torch.arange(rows, device=query.device)
            cached.keys[slots, :, lengths] = key.to(cached.keys.dtype)
            cached.values[slots, :, lengths] = _biased(projected.value, projected.value_bias).to(cached.values.dtype)
            lengths = lengths + 1
        keys, values = (
            part[:rows].float().repeat_interleave(heads // part.shape[1], 1) for part in (cached.keys, cached.values)
        )
        positions = torch.arange(keys.shape[2], device=keys.device)
        products = (keys @ query[..., None])[..., 0] * scores.scale + _bias(scores, positions, cached.keys.dtype)
        hidden = positions >= lengths[:, None, None]
        weights = products.masked_fill(hidden, -torch.inf).softmax(-1)
        output = (weights[:, :, None] @ values.masked_fill(hidden[..., None], 0))[:, :, 0]
        return output.reshape(rows, heads * width).to(projected.query.dtype)


def _biased(part: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return part.float() if bias is None else part.float() + bias.float()


def _rotated(part: torch.Tensor, scores: Scores) -> torch.Tensor:
    """Rotated by the angles of the rows' positions, if there are any."""
    if scores.rotary is None:
        return part
    cos, sin = (angle[:, None] for angle in scores.rotary)
    first, second = part.chunk(2, dim=-1)
    return part * cos + torch.cat((-second, first), -1) * sin


def _bias(scores: Scores, positions: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | float:
    """The bias of each score, which `(rows, heads, positions)` can be added to."""
    if scores.slopes is not None:
        return (scores.slopes[:, None] * positions).to(dtype).float()
    if scores.distances is not None:
        assert scores.positions is not None
        distances = (scores.positions[:, None] - positions).clamp(0, scores.distances.shape[1] - 1)
        return scores.distances[:, distances].transpose(0, 1).float()
    return 0.0


def _activated(states: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "relu":
        return states.relu()
    if activation == "silu":
        return functional.silu(states)
    return functional.gelu(states, approximate="tanh" if activation == "gelu_tanh" else "none")
