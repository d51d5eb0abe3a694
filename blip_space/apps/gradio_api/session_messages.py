"""The messages that wait for the clients of Gradio's queue, by session, and which sessions are forgotten.

Gradio forgets the oldest session beyond 2,000, also one whose call still runs and whose client listens. Here only
sessions are forgotten that need no messages any more. It also keeps every estimate of when a call runs, one for each
waiting call whenever another comes: 45,000 in a minute of calls to which no client listened. Here a newer estimate
takes the place of an unread one. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import Any

from gradio.server_messages import EstimationMessage

MAX_SESSIONS = 2_000
"""Whose messages are kept. Those with a call that waits or runs are kept beyond that; the queue limits them."""


class Messages(asyncio.Queue[Any]):
    """The messages for one session, and when a client last listened to them."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners = 0
        self._left_at = time.monotonic()

    def _put(self, item: Any) -> None:
        """Add a message; an estimate in place of an earlier one for the same call."""
        unread: deque[Any] = self._queue  # type: ignore[attr-defined]
        call = _estimated_call(item)
        places = (place for place, other in enumerate(unread) if _estimated_call(other) == call)
        place = None if call is None else next(places, None)
        if place is None:
            unread.append(item)
        else:
            unread[place] = item

    async def get(self) -> Any:
        """The next message. A client that waits for it is a listener."""
        self._listeners += 1
        try:
            return await super().get()
        finally:
            self._listeners -= 1
            self._left_at = time.monotonic()

    @property
    def seconds_alone(self) -> float:
        """How long there has been no listener."""
        return 0.0 if self._listeners else time.monotonic() - self._left_at


class SessionMessages(OrderedDict[str, Messages]):
    """In place of the dictionary of Gradio's queue: the messages by session, the oldest session first."""

    def __init__(self, unfinished: Callable[[], Collection[str]]) -> None:
        """`unfinished` returns the sessions with a call that waits or runs."""
        super().__init__()
        self._unfinished = unfinished

    def __setitem__(self, session: str, messages: Messages) -> None:
        """Keep the messages of a session, and forget the oldest without a call and a listener beyond the limit."""
        if session not in self and len(self) >= MAX_SESSIONS:
            unfinished = self._unfinished()
            oldest = next((name for name in self if name not in unfinished and self[name].seconds_alone), None)
            if oldest is not None:
                del self[oldest]
        super().__setitem__(session, messages)


def _estimated_call(message: Any) -> str | None:
    """The call that a message is an estimate for; None for other messages."""
    return message.event_id if isinstance(message, EstimationMessage) else None
