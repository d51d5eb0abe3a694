"""Limits the memory that all images being decoded in this process take together.

Depends on threads and numbers only; must not import any other module of this package.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_OVERTAKEN = 100
"""A waiting reservation is overtaken by at most this many others."""


class DecodingBudget:
    """At most `max_bytes` are reserved at once, except that a larger reservation is granted if there is no other.

    Waiting reservations are granted in the order of arrival, but smaller ones may overtake one that does not fit. A
    thread that holds a reservation must not ask for another, since it could wait for itself.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.reserved = 0
        self._holders = 0
        self._changed = threading.Condition()
        self._waiting: list[_Reservation] = []

    @property
    def waiting(self) -> int:
        """The number of waiting reservations."""
        return len(self._waiting)

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes fit, and hold them until the context ends."""
        reservation = _Reservation(size)
        try:
            with self._changed:
                self._waiting.append(reservation)
                self._grant()
                self._changed.wait_for(lambda: reservation.is_granted)
            yield
        finally:
            with self._changed:
                self._release(reservation)

    def _release(self, reservation: _Reservation) -> None:
        if reservation.is_granted:
            self.reserved -= reservation.size
            self._holders -= 1
        elif reservation in self._waiting:  # an interrupt of the main thread ended the wait
            self._waiting.remove(reservation)
        self._grant()

    def _grant(self) -> None:
        """Grant the waiting reservations that fit, in order."""
        skipped: list[_Reservation] = []
        for reservation in list(self._waiting):
            if not self._holders or self.reserved + reservation.size <= self.max_bytes:
                self._waiting.remove(reservation)
                self.reserved += reservation.size
                self._holders += 1
                reservation.is_granted = True
                for overtaken in skipped:
                    overtaken.times_overtaken += 1
            elif reservation.times_overtaken >= MAX_OVERTAKEN:
                break
            else:
                skipped.append(reservation)
        self._changed.notify_all()


@dataclass(eq=False)
class _Reservation:
    size: int
    is_granted: bool = False
    times_overtaken: int = 0
