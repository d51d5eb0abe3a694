"""What decoder-only models have already read: keys and values of finished answers, for the turn that follows.

A follow-up repeats the conversation word for word up to its own question, so only what is new has to be read. Knows
token ids and tensors within a bound of bytes, the least recently used forgotten first; knows no text. Used by the
worker's thread alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

Past: TypeAlias = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of every layer, each (heads, positions, width)."""


@dataclass(frozen=True, eq=False)
class _Turn:
    """What was read for one answer: the picture's positions, then those of the ids."""

    ids: tuple[int, ...]
    past: Past

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.past)


class TurnCache:
    """Finished answers by their picture. `hits` counts how often one was gone on from."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self._turns: OrderedDict[int, tuple[str, _Turn]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._turns)

    def put(self, picture: str, ids: Sequence[int], past: Past) -> None:
        """Keep what was read for an answer; `past` holds the picture's positions and then one for each id.

        The turn before it, which this one goes on from, is in it and no longer kept.
        """
        turn = _Turn(tuple(ids), past)
        if turn.nbytes > self.max_bytes:
            return
        for number, (seen, earlier) in list(self._turns.items()):
            if seen == picture and turn.ids[: len(earlier.ids)] == earlier.ids:
                self._drop(number)
        self._count += 1
        self._turns[self._count] = (picture, turn)
        self.bytes += turn.nbytes
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._turns)))

    def longest(self, picture: str, ids: Sequence[int], *, query_tokens: int) -> Past | None:
        """The keys and values of the longest beginning of the ids that was read before, or None.

        The last id is always left to be read, since its logits are wanted.
        """
        number, common = self._longest(picture, ids)
        if not common:
            return None
        self.hits += 1
        self._turns.move_to_end(number)
        positions = query_tokens + common
        return [(keys[:, :positions], values[:, :positions]) for keys, values in self._turns[number][1].past]

    def known(self, picture: str, ids: Sequence[int]) -> int:
        """How many of the first ids `longest` would spare the reader."""
        return self._longest(picture, ids)[1]

    def clear(self) -> None:
        """Forget everything; the count of hits stays."""
        self._turns.clear()
        self.bytes = 0

    def _longest(self, picture: str, ids: Sequence[int]) -> tuple[int, int]:
        """Which answer has most of the ids, and how many."""
        best, most = 0, 0
        for number, (seen, turn) in self._turns.items():
            if seen == picture and (common := _common(turn.ids, ids[:-1])) > most:
                best, most = number, common
        return best, most

    def _drop(self, number: int) -> None:
        _, turn = self._turns.pop(number)
        self.bytes -= turn.nbytes


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many of the first ids are the same."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
