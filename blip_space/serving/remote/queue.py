"""Which request is sent to the server next: at most so many at once, those of users before those of batches.

Callers take turns: next is a request of the address with the fewest that run, and of equal ones the first that came.
Pure and without a lock; its engine has one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from blip_space.callers import Caller


class Entry(Protocol):
    """What waits here."""

    @property
    def caller(self) -> Caller:
        """Who sent it."""

    @property
    def background(self) -> bool:
        """Whether it is of a batch."""


EntryType = TypeVar("EntryType", bound=Entry)


class RequestQueue(Generic[EntryType]):
    """The entries that wait, in the order in which they came, and those that run."""

    def __init__(self, at_once: int) -> None:
        self.running: list[EntryType] = []
        self._at_once = at_once
        self._users: deque[EntryType] = deque()
        self._background: deque[EntryType] = deque()

    def waiting(self, *, background: bool) -> int:
        """How many entries of users, or of batches, wait."""
        return len(self._background if background else self._users)

    def add(self, entry: EntryType) -> None:
        """Let an entry wait."""
        (self._background if entry.background else self._users).append(entry)

    def start_next(self) -> EntryType | None:
        """The next entry, which runs from now on; None if none may run."""
        waiting = self._users or self._background
        if len(self.running) >= self._at_once or not waiting:
            return None
        entry = self._in_turn(waiting)[0]
        waiting.remove(entry)
        self.running.append(entry)
        return entry

    def end(self, entry: EntryType) -> None:
        """Forget an entry that ran."""
        self.running.remove(entry)

    def remove(self, entry: EntryType) -> bool:
        """Remove a waiting entry; returns whether it waited."""
        waiting = self._background if entry.background else self._users
        if entry not in waiting:
            return False
        waiting.remove(entry)
        return True

    def position(self, entry: EntryType) -> int | None:
        """How many entries are before this one; None if it does not wait."""
        order = [*self._in_turn(self._users), *self._in_turn(self._background)]
        return order.index(entry) if entry in order else None

    def remove_all(self) -> list[EntryType]:
        """Remove and return what waits."""
        entries = [*self._users, *self._background]
        self._users.clear()
        self._background.clear()
        return entries

    def _in_turn(self, waiting: Sequence[EntryType]) -> list[EntryType]:
        """The waiting entries as if each time the first of the address with the fewest were taken."""
        same_kind = (entry for entry in self.running if waiting and entry.background == waiting[0].background)
        counts = Counter(entry.caller.address for entry in same_kind)
        ranks: dict[int, int] = {}
        for entry in waiting:
            ranks[id(entry)] = counts[entry.caller.address]
            counts[entry.caller.address] += 1
        return sorted(waiting, key=lambda entry: ranks[id(entry)])
