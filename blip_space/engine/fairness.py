"""Callers take turns: next is a sequence of the address with the fewest running ones, at it of the session with the
fewest, and of equal ones the first that came.

Sequences without a caller are those of one caller, so they run in order of arrival. Depends on sequences only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from collections.abc import Sequence as List

from blip_space.engine.sequence import Sequence, Status

MIN_LEAD = 2
"""How many more sequences than another a caller must have to lose one to it at once. With one more they would only
change places."""


def in_turn(waiting: List[Sequence], running: Iterable[Sequence]) -> List[Sequence]:
    """The waiting sequences of one queue in the order in which they are admitted. Preempted background sequences are
    first, so that there are never more incomplete ones than slots."""
    if len({sequence.caller for sequence in waiting}) < 2:
        return waiting
    is_background = waiting[0].is_background
    first = [sequence for sequence in waiting if is_background and sequence.status is Status.PREEMPTED]
    others = [sequence for sequence in waiting if sequence not in first]
    started = [*first, *(sequence for sequence in running if sequence.is_background == is_background)]
    by_session = _fewest_first(others, started, lambda sequence: sequence.caller)
    return [*first, *_fewest_first(by_session, started, lambda sequence: sequence.caller.address)]


class Shares:
    """How many sequences each address and each session has of some."""

    def __init__(self, sequences: Iterable[Sequence]) -> None:
        self._addresses, self._sessions = Counter[str](), Counter[Hashable]()
        for sequence in sequences:
            self.add(sequence)

    def add(self, sequence: Sequence) -> None:
        """Count one more."""
        self._addresses[sequence.caller.address] += 1
        self._sessions[sequence.caller] += 1

    def remove(self, sequence: Sequence) -> None:
        """Count one less."""
        self._addresses[sequence.caller.address] -= 1
        self._sessions[sequence.caller] -= 1

    def lead(self, sequence: Sequence, other: Sequence) -> int:
        """How many more the caller of `sequence` has than that of `other`: sessions of one address are compared with
        each other, all others by their addresses."""
        mine, theirs = sequence.caller, other.caller
        if mine.address == theirs.address:
            return self._sessions[mine] - self._sessions[theirs]
        return self._addresses[mine.address] - self._addresses[theirs.address]

    def has_more(self, sequence: Sequence, other: Sequence) -> bool:
        """Whether the caller of `sequence` has so many more than that of `other` that it loses one at once."""
        return self.lead(sequence, other) >= MIN_LEAD

    def may_change_places(self, sequence: Sequence, other: Sequence) -> bool:
        """Whether `other` may run instead of `sequence` after its time slice: no caller has fewer by that."""
        return sequence.caller == other.caller or self.lead(sequence, other) > 0


def _fewest_first(
    waiting: List[Sequence], running: Iterable[Sequence], key: Callable[[Sequence], Hashable]
) -> list[Sequence]:
    """`waiting` as if each time the first one were taken whose key has the fewest, running or taken."""
    counts, ranks = Counter(map(key, running)), dict[Sequence, int]()
    for sequence in waiting:
        ranks[sequence] = counts[key(sequence)]
        counts[key(sequence)] += 1
    return sorted(waiting, key=ranks.__getitem__)
