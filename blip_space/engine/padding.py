"""Prompts and masks of different lengths side by side.

Depends on tensors only; must not import a language model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def group_by_length(lengths: Sequence[int], *, most_padding: int) -> list[slice]:
    """Neighbours that are computed together, with no more padding among them; fewest groups when sorted by length."""
    found, start = [], 0
    for end in range(1, len(lengths) + 1):
        run = lengths[start : end + 1]
        if end == len(lengths) or max(run) * len(run) - sum(run) > most_padding:
            found.append(slice(start, end))
            start = end
    return found


def pad(prompts: Sequence[torch.Tensor], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts of (length, hidden) as one batch (rows, longest, hidden), padded on that side, and its mask."""
    longest = max(len(prompt) for prompt in prompts)
    rows, masks = [], []
    for prompt in prompts:
        spare = longest - len(prompt)
        sides = (spare, 0) if left else (0, spare)
        rows.append(torch.nn.functional.pad(prompt, (0, 0, *sides)))
        masks.append(torch.nn.functional.pad(torch.ones(len(prompt), dtype=torch.long, device=prompt.device), sides))
    return torch.stack(rows), torch.stack(masks)


def stack_masks(above: torch.Tensor, below: torch.Tensor, *, left: bool = True) -> torch.Tensor:
    """Two masks on top of each other, the narrower padded with zeros."""
    width = max(above.shape[1], below.shape[1])
    parts = []
    for mask in (above, below):
        spare = width - mask.shape[1]
        parts.append(torch.nn.functional.pad(mask, (spare, 0) if left else (0, spare)))
    return torch.cat(parts)


def leading_padding(mask: torch.Tensor) -> int:
    """How many of the leftmost columns are padding in every row."""
    used = mask.any(dim=0)
    return int(used.int().argmax()) if bool(used.any()) else mask.shape[1]
