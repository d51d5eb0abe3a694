"""What the batches of both kinds of language model are to the runner, and what they share: prompts and masks of
different lengths side by side.

Depends on tensors; must not import a kind of batch or a language model.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import BLOCK_TOKENS

PADDING = 8
"""On a processor, reading all weights once more takes as long as computing so many positions; on a GPU a pass costs
little for positions and much to begin, so there all prompts are padded and prefilled at once."""


class Batch(ABC):
    """Rows that are decoded together. Logits are float32 of shape (rows, vocabulary)."""

    pads_left: bool
    """On which side shorter prompts are padded."""

    def __init__(self, language_model: Any, start: list[int]) -> None:
        """`start` is what a row's decoder has read before the first new token, apart from the prompt."""
        self.start = start
        self._model = language_model
        self._mask = torch.ones(0, 0, dtype=torch.long, device=language_model.device)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._mask)

    @torch.inference_mode()
    def prefill(
        self,
        prompts: Sequence[torch.Tensor],
        cached: Sequence[KeyValues | None] = (),
        copies: Sequence[int] = (),
    ) -> torch.Tensor:
        """Compute prompts, each embedded as (length, hidden), and append `copies` rows for each, one by default; the
        logits of the prompts, one row each.

        `cached` are the keys and values of what comes before each prompt, where something does. Neighbours of about one
        length are computed together, so prompts are best sorted by it. Nothing is appended when that fails.
        """
        cached = cached or [None] * len(prompts)
        most = PADDING if prompts[0].device.type == "cpu" else sys.maxsize
        groups = group_by_length([len(prompt) for prompt in prompts], most_padding=most)
        parts = [self._compute(*pad(prompts[group], left=self.pads_left), cached[group]) for group in groups]
        for group, (_, part) in zip(groups, parts, strict=True):
            if any(count != 1 for count in copies[group]):
                part.select([row for row, count in enumerate(copies[group]) for _ in range(count)])
        for _, part in parts:
            self.merge(part)
        return torch.cat([logits for logits, _ in parts])

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to every row; the logits of what comes next."""

    @abstractmethod
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        """Overwrite rows by others of the same prompt and length: each move is (row, the row that it becomes)."""

    @abstractmethod
    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, any of them several times; the others are removed."""

    @abstractmethod
    def copy(self, row: int) -> Batch:
        """A batch of that row alone, as far as it is."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Append the rows of another batch of this kind on the same language model."""

    @abstractmethod
    def key_values(self, row: int) -> KeyValues | None:
        """Those of everything that a row has read, or None where they cannot be continued from."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The size of all keys and values, in bytes."""

    @abstractmethod
    def _compute(
        self, embeds: torch.Tensor, mask: torch.Tensor, cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, Batch]:
        """The logits of padded prompts (rows, longest, hidden) with their mask, and a batch of their rows."""


def trimmable(mask: torch.Tensor) -> int:
    """How many positions of common padding are worth a copy of the rest: whole blocks, and all where no row is left."""
    padding = leading_padding(mask)
    return padding // BLOCK_TOKENS * BLOCK_TOKENS if len(mask) else padding


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
