"""An answer on its way from the worker to whoever asked.

The only thing that both threads touch. Knows text and time; knows no model and no page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from blip_space.errors import BusyError, UserError


class Answer:
    """The text so far, and how it ends. The worker writes it; one reader follows it."""

    def __init__(self, *, deadline: float) -> None:
        """`deadline` is a time of `time.monotonic()`, in seconds; after it the answer ends as a `BusyError`."""
        self._deadline = deadline
        self._changed = threading.Condition()
        self._text = ""
        self._error: UserError | None = None
        self._finished = False
        self.tokens = 0
        """How many were written."""

        self.repeats = False
        """Whether it was cut off by its limit in the middle of a loop; known once it is whole."""

        self.place: Callable[[], int | None] = _nowhere
        """How many stand in line before it; None once it is being written."""

    @property
    def over(self) -> bool:
        """Whether nobody waits for more of it: finished, failed, cancelled or past its deadline."""
        return self._finished or time.monotonic() >= self._deadline

    def show(self, text: str) -> None:
        """Worker: the whole text so far."""
        with self._changed:
            self._text = text
            self._changed.notify_all()

    def finish(self) -> None:
        """Worker: the text is whole."""
        with self._changed:
            self._end()

    def fail(self, error: UserError) -> None:
        """Worker: there is no more, for this reason."""
        with self._changed:
            if not self._finished:
                self._error = error
            self._end()

    def cancel(self) -> None:
        """Reader: nobody wants the rest; the worker leaves it before its next token."""
        self.finish()

    def ends_within(self, seconds: float) -> bool:
        """Reader: whether it is over by then."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished, self._patience(seconds))
        return self.over

    def updates(self, heartbeat_seconds: float | None = None) -> Iterator[str]:
        """The text so far, at each change and, unchanged, after each heartbeat; raises the `UserError` that ended it.

        Closing the generator cancels the request.
        """
        shown: str | None = None
        try:
            while True:
                with self._changed:
                    if self._text == (shown or "") and not self.over:
                        self._changed.wait(self._patience(heartbeat_seconds))
                    text, finished, error = self._text, self._finished, self._error
                if error is not None:
                    raise error
                if not finished and time.monotonic() >= self._deadline:
                    raise BusyError("The answer took too long and was given up. Ask again, or for fewer new tokens.")
                if text != shown or (heartbeat_seconds is not None and not finished):
                    shown = text
                    yield text
                if finished and text == shown:
                    return
        finally:
            self.cancel()

    def _patience(self, heartbeat_seconds: float | None) -> float:
        left = max(0.0, self._deadline - time.monotonic())
        return left if heartbeat_seconds is None else min(left, heartbeat_seconds)

    def _end(self) -> None:
        self._finished = True
        self.place = _nowhere  # it knew the request; a circle of them would keep pictures until a rare collection
        self._changed.notify_all()


def _nowhere() -> int | None:
    return None
