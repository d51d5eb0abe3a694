"""The interface of a batch, whatever its layout: prompts and tokens in, logits out.

Depends on tensors; must not import an implementation or a language model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from blip_space.engine.caches import KeyValues
from blip_space.engine.launched_step import NextInputs
from blip_space.models.interface import Embedded


class Batch(ABC):
    """Rows that are decoded together. Logits are float32 of shape (rows, vocabulary)."""

    @abstractmethod
    def prefill(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None] = (), copies: Sequence[int] = ()
    ) -> torch.Tensor:
        """Prefill prompts, append `copies` rows for each (default: one), and return one row of logits for each prompt.

        `cached` are the keys and values of the positions before each prompt, if any. Adjacent prompts share a forward
        pass, on a CPU those of similar length, so the caller should sort them by length. On an error no row is
        appended.
        """

    def warm_up(self, prompt: Embedded, lengths: Sequence[int] = ()) -> None:  # noqa: B027  # most batches need none
        """Do once, while there is no row, what would delay a first answer; `prompt` may be any, and most first prompts
        have `lengths`."""

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

    def launch(self, inputs: NextInputs) -> None:  # noqa: B027  # may do nothing
        """Launch the next decode with these ids before the host knows them, where that pays.

        The next `decode` takes the launched step if every row was in it with the same token, and else computes its own.
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
