"""How much memory decoding may take in this process at once.

Depends on threads and numbers only; must not know what an image is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MAX_OVERTAKEN = 100
"""A reservation that has waited while so many others went ahead of it is overtaken no more."""


class DecodingBudget:
    """At most `max_bytes` are reserved at once; a reservation of more is given while there is no other.

    Who waits is served in the order of arrival as far as there is room, and smaller ones go ahead of those for which
    there is none. A thread that holds a reservation must not ask for another: it could wait for itself.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.reserved = 0
        self._holders = 0
        self._changed = threading.Condition()
        self._waiting: list[_Reservation] = []

    @property
    def waiting(self) -> int:
        """How many reservations wait."""
        return len(self._waiting)

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until there is room for `size` bytes, and hold them until the context ends, whatever ends it."""
        own = _Reservation(size)
        try:
            with self._changed:
                self._waiting.append(own)
                self._give()
                self._changed.wait_for(lambda: own.is_given)
            yield
        finally:
            with self._changed:
                self._withdraw(own)

    def _withdraw(self, own: _Reservation) -> None:
        if own.is_given:
            self.reserved -= own.size
            self._holders -= 1
        elif own in self._waiting:  # an interrupt of the main thread ended the wait
            self._waiting.remove(own)
        self._give()

    def _give(self) -> None:
        """Give what waits as far as there is room, in order."""
        passed: list[_Reservation] = []
        for one in list(self._waiting):
            if self._has_room(one.size):
                self._waiting.remove(one)
                self.reserved += one.size
                self._holders += 1
                one.is_given = True
                for other in passed:
                    other.overtaken += 1
            elif one.overtaken >= MAX_OVERTAKEN:
                break
            else:
                passed.append(one)
        self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return not self._holders or self.reserved + size <= self.max_bytes


class _Reservation:
    def __init__(self, size: int) -> None:
        self.size = size
        self.is_given = False
        self.overtaken = 0
