"""The interface of a batch, whatever its layout: prompts and tokens in, logits out.

Depends on tensors; must not import an implementation or a language model.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from typing import Any

import torch

from blip_space.engine.caches import KeyValues
from blip_space.engine.launched_step import Ids
from blip_space.engine.padding import group_by_length
from blip_space.models.interface import Embedded

MAX_CPU_PADDING = 8
"""How many padded positions cost a CPU as much as another forward pass. On a GPU a pass has a high fixed cost and
positions are almost free, so there all prompts are padded and prefilled at once."""


class Batch(ABC):
    """Rows that are decoded together. Logits are float32 of shape (rows, vocabulary)."""

    @torch.inference_mode()
    def prefill(
        self,
        prompts: Sequence[Embedded],
        cached: Sequence[KeyValues | None] = (),
        copies: Sequence[int] = (),
    ) -> torch.Tensor:
        """Prefill prompts, append `copies` rows for each (default: one), and return one row of logits for each prompt.

        `cached` are the keys and values of the positions before each prompt, if any. Adjacent prompts of similar length
        share a forward pass, so the caller should sort them by length. On an error no row is appended.
        """
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

    def warm_up(self, prompt: Embedded) -> None:  # noqa: B027  # most batches need none
        """Do once, while there is no row, what would delay a first answer; `prompt` may be any."""

    def capture_pending(self) -> bool:
        """Capture one graph that earlier steps lacked; False if there is none, or while there are rows."""
        return False

    @staticmethod
    @abstractmethod
    def reserved_positions(rows: int, longest: int) -> int:
        """How many positions the buffers allocate for `rows` rows, of which the longest has `longest` positions."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append `tokens[row]` to every row; returns the logits of the token after it."""

    def launch(self, ids: torch.Tensor, chosen: Ids, ending: Container[int]) -> None:  # noqa: B027  # may do nothing
        """Launch the next step with `ids` (rows,) before the host knows them, where that pays.

        `chosen` has them for the host later. The next `decode` takes the launched step if every row was in it with the
        same token, and else computes its own. Rows in `ending` get no other token, so their results are dropped.
        """

    @property
    def is_launched(self) -> bool:
        """Whether a step was launched that the next `decode` may take. It has no rows that were added after it."""
        return False

    @abstractmethod
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        """Overwrite rows by beams of the same prompt, which have the same length; each move is (target, source)."""

    @abstractmethod
    def select(self, rows: Sequence[int]) -> None:
        """Keep `rows`, in this order, and remove all others; a row that occurs several times is copied."""

    @abstractmethod
    def copy(self, row: int) -> Batch:
        """A new batch with a copy of this row only, for a later `merge`."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Append the rows of another batch: a `copy`, or newly prefilled prompts."""

    @abstractmethod
    def key_values(self, row: int) -> KeyValues | None:
        """A copy of all keys and values of a row; None if no prompt can continue from them (encoder-decoder models)."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The size of all keys and values, in bytes."""

    @abstractmethod
    def _forward(self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]) -> tuple[torch.Tensor, Batch]:
        """Prefill prompts in one forward pass; returns their logits and a new batch of their rows."""
