"""What a `ProcessEngine` and its process send each other through their pipe, and how the process gathers its messages.

Depends on requests and errors only; must not import a model or an engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from blip_space.engine.request import Request
from blip_space.errors import UserError

SEND_SECONDS = 0.02
"""How often texts in the middle of an answer are sent: more often than the page and the API show them."""


class Submit(NamedTuple):
    """Answer a request within `seconds`; `id` is that of its answer."""

    id: int
    request: Request
    seconds: float


class Cancel(NamedTuple):
    """Cancel an answer."""

    id: int


class Call(NamedTuple):
    """Call a method of the engine with these arguments; `id` is that of the reply."""

    id: int
    method: str
    values: dict[str, Any]


class Stop(NamedTuple):
    """End every answer, then the process."""


class Part(NamedTuple):
    """An answer so far, or at its end: its text, its number of tokens and that of its prompt, or the error that ended
    it."""

    id: int
    text: str = ""
    tokens: int = 0
    finished: bool = False
    repeats: bool = False
    error: UserError | None = None
    prompt_tokens: int = 0


class Reply(NamedTuple):
    """What a call returned, or the error that it raised."""

    id: int
    value: Any = None
    error: UserError | None = None


Message = Submit | Cancel | Call | Stop
"""To the engine's process."""

Sent = Part | Reply
"""From the engine's process, which sends lists of them."""


class Outbox:
    """Gathers messages and sends them from a thread of its own, so that the engine's thread never waits for a reader.

    The answers of one step travel in one list. Of the parts in the middle of an answer only the newest is sent, every
    `SEND_SECONDS`; first and last parts and replies are sent at once.
    """

    def __init__(
        self, send: Callable[[Sequence[Sent]], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`send` is called with each list; an `OSError` of it, when there is no reader any more, ends the thread."""
        self._send, self._clock = send, clock
        self._changed = threading.Condition()
        self._at_once: list[Sent] = []
        self._later: dict[int, Part] = {}
        self._sent_at = 0.0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def post(self, message: Sent) -> None:
        """Send a message at once; a part replaces earlier ones of its answer. From any thread."""
        with self._changed:
            if isinstance(message, Part):
                self._later.pop(message.id, None)
            self._at_once.append(message)
            self._changed.notify()

    def post_later(self, part: Part) -> None:
        """Send a part with the others of these `SEND_SECONDS`, unless a newer one replaces it. From any thread."""
        with self._changed:
            self._later[part.id] = part
            if len(self._later) == 1:
                self._changed.notify()

    def close(self, seconds: float = 5.0) -> None:
        """Send everything, waiting at most that long."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while messages := self._next():
            try:
                self._send(messages)
            except OSError:
                return

    def _next(self) -> list[Sent]:
        """Wait for what is to be sent next; empty once closed."""
        with self._changed:
            while not (self._at_once or self._is_closed):
                seconds = self._sent_at + SEND_SECONDS - self._clock() if self._later else None
                if seconds is not None and seconds <= 0:
                    break
                self._changed.wait(seconds)
            messages, self._at_once = self._at_once, []
            if self._is_closed or self._clock() >= self._sent_at + SEND_SECONDS:
                messages += self._later.values()
                self._later.clear()
                self._sent_at = self._clock()
            return messages
