"""Prompts and masks of different lengths side by side. Depends on tensors only."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from blip_space.engine.kv_cache import BLOCK_TOKENS
from blip_space.models.interface import Embedded
from blip_space.models.transfer import to_device


def group_by_length(lengths: Sequence[int], *, max_padding: int) -> list[slice]:
    """Neighbours that are computed together, with no more padding among them; fewest groups when sorted by length."""
    found, start = [], 0
    for end in range(1, len(lengths) + 1):
        run = lengths[start : end + 1]
        if end == len(lengths) or max(run) * len(run) - sum(run) > max_padding:
            found.append(slice(start, end))
            start = end
    return found


def pad(prompts: Sequence[Embedded], *, left: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts as one batch: embeddings (rows, longest, hidden), padded on that side, their mask (rows, longest) and
    their positions (axes, rows, longest)."""
    longest = max(len(prompt) for prompt in prompts)
    rows, positions = [], []
    for prompt in prompts:
        spare = longest - len(prompt)
        sides = (spare, 0) if left else (0, spare)
        rows.append(torch.nn.functional.pad(prompt.embeddings, (0, 0, *sides)))
        positions.append(torch.nn.functional.pad(prompt.positions, sides))
    mask = length_mask([len(prompt) for prompt in prompts], left=left, device=rows[0].device)
    return torch.stack(rows), mask, torch.stack(positions, dim=1)


def length_mask(lengths: Sequence[int], *, left: bool, device: torch.device, width: int = 0) -> torch.Tensor:
    """Ones of so many positions a row, and zeros on that side: (rows, width), the longest where no width is given."""
    width, ends = width or max(lengths), to_device(lengths, device)[:, None]
    places = torch.arange(width, device=device)
    return (places >= width - ends if left else places < ends).long()


def stack_masks(above: torch.Tensor, below: torch.Tensor, *, left: bool = True) -> torch.Tensor:
    """Two masks on top of each other, the narrower padded with zeros."""
    width = max(above.shape[1], below.shape[1])
    parts = []
    for mask in (above, below):
        spare = width - mask.shape[1]
        parts.append(torch.nn.functional.pad(mask, (spare, 0) if left else (0, spare)))
    return torch.cat(parts)


def trimmable_padding(padding: int, rows: int) -> int:
    """How many positions of common padding are worth a copy of the rest: whole blocks, and all where no row is left."""
    return padding // BLOCK_TOKENS * BLOCK_TOKENS if rows else padding
