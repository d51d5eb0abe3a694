"""Passes one answer from the engine's thread to its reader: the only object that both threads use.

Depends on text and time only; must not import a model, a request or an app.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from blip_space.errors import BusyError, UserError

TOOK_TOO_LONG = "The answer took too long and was cancelled. Try again later, or lower Max new tokens (max_new_tokens)."


class ResponseStream:
    """One answer: its text so far, and its end or error. The engine publishes it, and one reader iterates it."""

    def __init__(self, *, deadline: float) -> None:
        """`deadline` is a time of `time.monotonic()`, in seconds; after it the answer ends as a `BusyError`."""
        self._deadline = deadline
        lock = threading.RLock()
        self._changed, self._ended = threading.Condition(lock), threading.Condition(lock)
        self._text = ""
        self._error: UserError | None = None
        self._finished = self._is_cancelled = False
        self._observer: Callable[[ResponseStream], object] | None = None
        self._waiter: Callable[[], object] | None = None
        self._waits_for_text: str | None = None
        self.first_text_at: float | None = None
        """The time of `time.monotonic()` at which the first text was published."""

        self.tokens = 0
        """The number of generated tokens."""

        self.prompt_tokens = 0
        """The number of tokens of the prompt, the positions of its image included; known at the end at the latest."""

        self.repeats = False
        """Whether the token limit cut the answer off in a loop; set when it is finished."""

        self.queue_position: Callable[[], int | None] = _not_waiting
        """Returns how many requests wait before this one; None once it runs."""

        self.on_cancel: Callable[[], object] = _do_nothing
        """Called once if the reader cancels the answer before its end."""

    def __iter__(self) -> Iterator[str]:
        """See `updates`, without heartbeats."""
        return self.updates()

    @property
    def done(self) -> bool:
        """Whether it is finished, failed, cancelled or past its deadline."""
        return self._finished or time.monotonic() >= self._deadline

    @property
    def outcome(self) -> str:
        """How it ended: `answered`, `cancelled`, or the code of its error. Until then `answered`."""
        if self._error is not None:
            return self._error.code
        if self._is_cancelled:
            return "timed_out" if time.monotonic() >= self._deadline else "cancelled"
        return "answered"

    def observe(self, observer: Callable[[ResponseStream], object]) -> None:
        """Call `observer` once at the end, or now if that was before. It may run under this response's lock, on the
        engine's thread, so it must be fast."""
        with self._changed:
            if not self._finished:
                self._observer = observer
                return
        observer(self)

    def publish(self, text: str, *, finished: bool = False) -> None:
        """Called by the engine: set the text so far. After a restart the old text stays visible while it is longer."""
        with self._changed:
            if text and self.first_text_at is None:
                self.first_text_at = time.monotonic()
            if finished or len(text) >= len(self._text):
                self._text = text
            if finished:
                self._end()
            elif self._waits_for_text is not None and self._text != self._waits_for_text:
                self._wake()
            self._changed.notify_all()

    def finish(self) -> None:
        """Called by the engine: the text is complete."""
        with self._changed:
            self._end()

    def fail(self, error: UserError) -> None:
        """Called by the engine: end with this error, unless the answer has ended already."""
        with self._changed:
            if not self._finished:
                self._error = error
            self._end()

    def cancel(self) -> None:
        """Called by the reader: cancel the rest; the engine frees its slots before the next step."""
        with self._changed:
            is_early = not self._finished
            self._is_cancelled = self._is_cancelled or is_early
            self._end()
        if is_early:
            self.on_cancel()

    def wait(self, seconds: float) -> bool:
        """Called by the reader: wait at most that long for the end; returns whether the answer is `done`."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished, self._seconds_left(seconds))
        return self.done

    @property
    def seconds_left(self) -> float:
        """The time until its deadline."""
        return self._seconds_left(None)

    def snapshot(self) -> tuple[str, bool]:
        """The text so far, and whether it is complete. Raises the error that ended the answer."""
        with self._changed:
            text, finished, error = self._text, self._finished, self._error
        if error is not None:
            raise error
        if not finished and time.monotonic() >= self._deadline:
            raise BusyError(TOOK_TOO_LONG, code="timed_out")
        return text, finished

    def call_when_changed(self, callback: Callable[[], object], *, text: str | None = None) -> None:
        """For a reader that must not block: call `callback` once, when the text is no longer `text` or the answer has
        ended, at once if it is so already. Without `text` only the end counts. It replaces an earlier callback.

        It may run under this response's lock, on the engine's thread, so it must be fast and raise nothing.
        """
        with self._changed:
            self._waiter, self._waits_for_text = callback, text
            if self._finished or (text is not None and self._text != text):
                self._wake()

    def updates(self, heartbeat_seconds: float | None = None, *, interval_seconds: float = 0.0) -> Iterator[str]:
        """Yield the text so far at each change, and again after every `heartbeat_seconds`.

        The first text and the end come at once, texts between them at least `interval_seconds` after the last one.
        Raises the error that ended the answer. Closing the generator cancels the request.
        """
        yielded, due_at = None, 0.0
        try:
            while True:
                with self._changed:
                    # not woken by the tokens until then, which many streams would take from the engine's thread
                    while not self.done and (early := due_at - time.monotonic()) > 0:
                        self._ended.wait(self._seconds_left(early))
                    if self._text == (yielded or "") and not self.done:
                        self._changed.wait(self._seconds_left(heartbeat_seconds))
                text, finished = self.snapshot()
                if text != yielded or (heartbeat_seconds is not None and not finished):
                    if text and text != yielded:
                        due_at = time.monotonic() + interval_seconds
                    yielded = text
                    yield text
                if finished:
                    return
        finally:
            self.cancel()

    def _seconds_left(self, at_most: float | None) -> float:
        left = max(0.0, self._deadline - time.monotonic())
        return left if at_most is None else min(left, at_most)

    def _end(self) -> None:
        self._finished = True
        self.queue_position = _not_waiting  # a reference cycle with the request would keep its images
        self._changed.notify_all()
        self._ended.notify_all()
        self._wake()
        observer, self._observer = self._observer, None
        if observer:
            observer(self)

    def _wake(self) -> None:
        waiter, self._waiter, self._waits_for_text = self._waiter, None, None
        if waiter:
            waiter()


def _not_waiting() -> int | None:
    return None


def _do_nothing() -> None:
    pass
