"""What a batch is to the runner, however it lays out its rows: prompts in, logits out.

Depends on tensors; must not import a kind of batch or a language model.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from blip_space.engine.caches import KeyValues
from blip_space.engine.padding import group_by_length
from blip_space.models.interface import Embedded

PADDING = 8
"""On a processor, reading all weights once more takes as long as computing so many positions; on a GPU a pass costs
little for positions and much to begin, so there all prompts are padded and prefilled at once."""


class Batch(ABC):
    """Rows that are decoded together. Logits are float32 of shape (rows, vocabulary)."""

    @torch.inference_mode()
    def prefill(
        self,
        prompts: Sequence[Embedded],
        cached: Sequence[KeyValues | None] = (),
        copies: Sequence[int] = (),
    ) -> torch.Tensor:
        """Compute prompts and append `copies` rows for each, one by default; the logits of the prompts, one row each.

        `cached` are the keys and values of what comes before each prompt, where something does. Neighbours of about one
        length are computed together, so prompts are best sorted by it. Nothing is appended when that fails.
        """
        cached = cached or [None] * len(prompts)
        most = PADDING if prompts[0].embeddings.device.type == "cpu" else sys.maxsize
        groups = group_by_length([len(prompt) for prompt in prompts], max_padding=most)
        parts = [self._compute(prompts[group], cached[group]) for group in groups]
        for group, (_, part) in zip(groups, parts, strict=True):
            if any(count != 1 for count in copies[group]):
                part.select([row for row, count in enumerate(copies[group]) for _ in range(count)])
        for _, part in parts:
            self.merge(part)
        return torch.cat([logits for logits, _ in parts])

    @staticmethod
    @abstractmethod
    def reserved_positions(rows: int, longest: int) -> int:
        """How many positions the buffers of so many rows have, the longest of which has that many."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

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
        """A batch of that row alone, as far as it is, which `merge` takes."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Append the rows of what `copy` gave, or of what was computed for prompts."""

    @abstractmethod
    def key_values(self, row: int) -> KeyValues | None:
        """Those of everything that a row has read, or None where they cannot be continued from."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The size of all keys and values, in bytes."""

    @abstractmethod
    def _compute(self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]) -> tuple[torch.Tensor, Batch]:
        """The logits of prompts that are read together, and a batch of their rows."""
