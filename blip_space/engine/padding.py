"""Puts prompts or masks of different lengths into one tensor. Depends on tensors only."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from blip_space.engine.kv_cache import BLOCK_TOKENS
from blip_space.models.interface import Embedded
from blip_space.models.transfer import to_device

MAX_CPU_PADDING = 8
"""How many padded positions cost a CPU as much as another forward pass. On a GPU a pass has a high fixed cost and
positions are almost free, so there all prompts are padded and prefilled at once."""


def group_by_length(lengths: Sequence[int], *, max_padding: int) -> list[slice]:
    """Slices of adjacent prompts, each with at most `max_padding` padded positions. Sorted lengths give the fewest."""
    groups, start = [], 0
    for end in range(1, len(lengths) + 1):
        group = lengths[start : end + 1]
        if end == len(lengths) or max(group) * len(group) - sum(group) > max_padding:
            groups.append(slice(start, end))
            start = end
    return groups


def pad(prompts: Sequence[Embedded], *, left: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts as one batch, padded on the left if `left`, else on the right: embeddings (rows, longest, hidden), mask
    (rows, longest) and positions (axes, rows, longest)."""
    longest = max(len(prompt) for prompt in prompts)
    rows, positions = [], []
    for prompt in prompts:
        padding = longest - len(prompt)
        sides = (padding, 0) if left else (0, padding)
        rows.append(torch.nn.functional.pad(prompt.embeddings, (0, 0, *sides)))
        positions.append(torch.nn.functional.pad(prompt.positions, sides))
    mask = length_mask([len(prompt) for prompt in prompts], left=left, device=rows[0].device)
    return torch.stack(rows), mask, torch.stack(positions, dim=1)


def length_mask(lengths: Sequence[int], *, left: bool, device: torch.device, width: int = 0) -> torch.Tensor:
    """A mask (rows, width): 1 for each row's positions, 0 for its padding, which is on the left if `left`, else on the
    right. If `width` is 0, it is the longest length."""
    width, ends = width or max(lengths), to_device(lengths, device)[:, None]
    positions = torch.arange(width, device=device)
    return (positions >= width - ends if left else positions < ends).long()


def stack_masks(above: torch.Tensor, below: torch.Tensor, *, left: bool = True) -> torch.Tensor:
    """One mask with the rows of both; the narrower is padded with zeros, on the left if `left`, else on the right."""
    width = max(above.shape[1], below.shape[1])
    parts = []
    for mask in (above, below):
        padding = width - mask.shape[1]
        parts.append(torch.nn.functional.pad(mask, (padding, 0) if left else (0, padding)))
    return torch.cat(parts)


def trimmable_padding(padding: int, rows: int) -> int:
    """How much of the padding that all rows share is worth a copy to trim: complete blocks; all if no row is left."""
    return padding // BLOCK_TOKENS * BLOCK_TOKENS if rows else padding
