"""Rows that end at the same position: shorter ones are padded on the left and masked, so each row computes exactly what
it would compute alone.

A row is merged after its prefill, gets one position in every decode, and is removed by `select`. Lengths and positions
are Python numbers, so nothing synchronises with a GPU. Depends on masks; must not import requests or sampling.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Sequence

import torch

from blip_space.engine.batch_interface import Batch
from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import round_up_to_block
from blip_space.engine.padding import MAX_CPU_PADDING, group_by_length
from blip_space.models.interface import Embedded
from blip_space.models.transfer import to_device


class LeftAlignedBatch(Batch):
    """What the batches of both kinds of decoder share: the mask, and the length and next position of each row."""

    def __init__(self, device: torch.device) -> None:
        self._mask = torch.ones(0, 0, dtype=torch.long, device=device)
        self.lengths: list[int] = []
        self.next_positions: list[int] = []

    @staticmethod
    def reserved_positions(rows: int, longest: int) -> int:
        return rows * round_up_to_block(longest)

    @torch.inference_mode()
    def prefill(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None] = (), copies: Sequence[int] = ()
    ) -> torch.Tensor:
        cached = cached or [None] * len(prompts)
        max_padding = MAX_CPU_PADDING if prompts[0].embeddings.device.type == "cpu" else sys.maxsize
        groups = group_by_length([len(prompt) for prompt in prompts], max_padding=max_padding)
        parts = [self._forward(prompts[group], cached[group]) for group in groups]
        for group, (_, part) in zip(groups, parts, strict=True):
            if any(count != 1 for count in copies[group]):
                part.select([row for row, count in enumerate(copies[group]) for _ in range(count)])
        for _, part in parts:
            self.merge(part)
        return torch.cat([logits for logits, _ in parts])

    def __len__(self) -> int:
        return len(self.lengths)

    @abstractmethod
    def _forward(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, LeftAlignedBatch]:
        """Prefill prompts in one forward pass; returns their logits and a new batch of their rows."""

    def _advance(self, tokens: Sequence[int], axes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Extend the mask by one position; returns token ids (rows, 1) and their positions (axes, rows, 1)."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self), 1)], dim=1)
        ids, positions = to_device([tokens, self.next_positions], self._mask.device)[:, :, None]
        self.lengths = [length + 1 for length in self.lengths]
        self.next_positions = [position + 1 for position in self.next_positions]
        return ids, positions.expand(axes, -1, -1)

    def _append_lengths(self, other: LeftAlignedBatch) -> None:
        self.lengths = [*self.lengths, *other.lengths]
        self.next_positions = [*self.next_positions, *other.next_positions]

    def _select_lengths(self, rows: Sequence[int]) -> None:
        self.lengths = [self.lengths[row] for row in rows]
        self.next_positions = [self.next_positions[row] for row in rows]
