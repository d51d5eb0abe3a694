"""Decides which uploaded image is decoded next, so that one caller's images never keep another's from their turn.

Small images have processes of their own, so they never wait for a large one. Of one caller one image is decoded at a
time, and addresses take turns by the memory that their images need. Depends on threads and numbers only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blip_space.callers import UNKNOWN, Caller
from blip_space.errors import BusyError

SMALL_IMAGE_BYTES = 140_000_000
"""Up to this estimate an image is small: 17 megapixels of a JPEG or PNG."""

SMALL_BYTES_AT_ONCE = 200_000_000
"""The memory that small images may take together, beside one large image."""

SLOW_SECONDS = 1.0
"""A small image that takes longer does not count as small any more, so that another one may start beside it."""

SLOW_PROCESSES = 2
"""How many processes there are for such images, in addition to those for small and large ones."""

POLL_SECONDS = 0.25
MIN_COST = 1_000_000
TOO_MANY = "The server is busy: many images are being decoded. Try again in a minute."


@dataclass(eq=False)
class _Ticket:
    """One image. `start` and `finish` are its caller's virtual times, as in start-time fair queueing (Goyal 1996)."""

    caller: Caller
    size: int
    start: float
    finish: float
    granted_at: float | None = None

    @property
    def is_small(self) -> bool:
        return self.size <= SMALL_IMAGE_BYTES


class DecodingQueue:
    """Admits images: `small` small ones at once, one large one, and some more beside small ones that turn out slow."""

    def __init__(self, small: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._small, self._clock = small, clock
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._running: list[_Ticket] = []
        self._virtual_time = 0.0
        self._finish_times: dict[str, float] = {}
        """By address: when its images so far end, in virtual time."""

    @property
    def max_running(self) -> int:
        """The most images that are decoded at once."""
        return self._small + 1 + SLOW_PROCESSES

    @property
    def waiting(self) -> int:
        """The number of images that wait."""
        return len(self._waiting)

    @contextmanager
    def admit(self, caller: Caller, size: int, *, seconds: float) -> Iterator[None]:
        """Wait for the turn of an image that takes `size` bytes, and hold it until the context ends. Raises
        `BusyError` after that many seconds."""
        ticket = self._join(caller, size)
        try:
            self._wait(ticket, self._clock() + seconds)
            yield
        finally:
            with self._changed:
                (self._waiting if ticket.granted_at is None else self._running).remove(ticket)
                self._grant()

    def _join(self, caller: Caller, size: int) -> _Ticket:
        with self._changed:
            start = max(self._virtual_time, self._finish_times.get(caller.address, 0.0))
            ticket = _Ticket(caller, size, start, start + max(size, MIN_COST))
            self._finish_times[caller.address] = ticket.finish
            self._waiting.append(ticket)
            self._grant()
            return ticket

    def _wait(self, ticket: _Ticket, deadline: float) -> None:
        with self._changed:
            while ticket.granted_at is None:
                if self._clock() >= deadline:
                    raise BusyError(TOO_MANY)
                self._changed.wait(POLL_SECONDS)  # time alone makes an image slow
                self._grant()

    def _grant(self) -> None:
        """Admit the waiting images that may run, those first whose caller has had least."""
        for ticket in sorted(self._waiting, key=lambda ticket: ticket.start):
            if self._may_run(ticket):
                ticket.granted_at = self._clock()
                self._waiting.remove(ticket)
                self._running.append(ticket)
                self._virtual_time = max(self._virtual_time, ticket.start)
                self._changed.notify_all()
        ahead = {address: time for address, time in self._finish_times.items() if time > self._virtual_time}
        self._finish_times = ahead if self._waiting or self._running else {}

    def _may_run(self, ticket: _Ticket) -> bool:
        running = self._running
        if ticket.caller != UNKNOWN:
            if any(other.caller == ticket.caller for other in running):
                return False
            if sum(other.caller.address == ticket.caller.address for other in running) >= self.max_running - 1:
                return False  # one process stays free for the callers at other addresses
        if len(running) >= self.max_running:
            return False
        if not ticket.is_small:
            return all(other.is_small for other in running)
        small = [other for other in running if other.is_small]
        fits = not small or sum(other.size for other in small) + ticket.size <= SMALL_BYTES_AT_ONCE
        slow_since = self._clock() - SLOW_SECONDS
        quick = [other for other in small if other.granted_at is not None and other.granted_at > slow_since]
        return fits and len(quick) < self._small
