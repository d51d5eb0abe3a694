"""A decode step that was launched before the host knew its ids, so that a GPU does not wait for the host.

Depends on tensors; must not import a batch.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch


class NextInputs(Protocol):
    """The inputs of a decode before the host knows all of them."""

    @property
    def ids(self) -> torch.Tensor:
        """The token of each row (rows,), on the device."""

    @property
    def ending(self) -> Container[int]:
        """The rows for which this is the last token: they have no further decode, so its results are dropped."""

    def read(self) -> Sequence[int | None]:
        """The ids; waits for the device."""


@dataclass(frozen=True)
class LaunchedStep:
    """The rows of the step, and its logits (slots, vocabulary), which the next step may overwrite.

    The batch is as it was before the step: its rows have the lengths and positions without it.
    """

    logits: torch.Tensor
    inputs: NextInputs

    rows: Mapping[Any, tuple[int, int]]
    """For each row that goes on, its index in `inputs` and its slot."""

    def is_for(self, rows: Sequence[Any], tokens: Sequence[int]) -> bool:
        """Whether each of these rows was launched with its token; the step may have had others, too."""
        if not all(row in self.rows for row in rows):
            return False
        ids = self.inputs.read()
        return all(ids[self.rows[row][0]] == token for row, token in zip(rows, tokens, strict=True))

    def slots_of(self, rows: Sequence[Any]) -> list[int]:
        """The slot of each row in `logits`."""
        return [self.rows[row][1] for row in rows]
