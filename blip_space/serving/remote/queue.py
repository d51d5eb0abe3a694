"""Which request is sent to the server next: at most so many at once, those of users before those of batches.

Pure and without a lock; its engine has one.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class RequestQueue(Generic[Entry]):
    """Waiting entries, and how many run."""

    def __init__(self, at_once: int) -> None:
        self.running = 0
        self._at_once = at_once
        self._users: deque[Entry] = deque()
        self._background: deque[Entry] = deque()

    def waiting(self, *, background: bool) -> int:
        """How many entries of users, or of batches, wait."""
        return len(self._background if background else self._users)

    @property
    def is_full(self) -> bool:
        """Whether as many run as may run at once."""
        return self.running >= self._at_once

    def add(self, entry: Entry, *, background: bool) -> None:
        """Let an entry wait."""
        (self._background if background else self._users).append(entry)

    def start_next(self) -> Entry | None:
        """The next entry, which counts as running from now on; None if none may run."""
        if self.is_full or not (self._users or self._background):
            return None
        self.running += 1
        return (self._users or self._background).popleft()

    def end(self) -> None:
        """Count an entry that ran as ended."""
        self.running -= 1

    def remove(self, entry: Entry) -> bool:
        """Remove a waiting entry; returns whether it waited."""
        for waiting in (self._users, self._background):
            if entry in waiting:
                waiting.remove(entry)
                return True
        return False

    def position(self, entry: Entry) -> int | None:
        """How many entries are before this one; None if it does not wait."""
        order = [*self._users, *self._background]
        return order.index(entry) if entry in order else None

    def remove_all(self) -> list[Entry]:
        """Remove and return what waits."""
        entries = [*self._users, *self._background]
        self._users.clear()
        self._background.clear()
        return entries
