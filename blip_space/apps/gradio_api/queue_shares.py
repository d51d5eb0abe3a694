"""Gradio's queue in shares: no caller fills it, takes all that runs at once, or leaves calls there without a listener.

Gradio's own queue is first come, first served, and keeps the calls of a client that never listens. Depends on Gradio's
queue and on callers only. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import uuid4

from blip_space.apps.gradio_api.session_messages import Messages, SessionMessages
from blip_space.callers import Caller

MAX_WAITING_SHARE = 1 / 4
"""Of the queue, for the calls of one address that wait; never more than there are free places, so that addresses which
send all they may leave some to those with fewer calls."""

MAX_RUNNING_SHARE = 3 / 4
"""Of what runs at once of one kind, for one address. The rest is free for the first call of another."""

LISTEN_SECONDS = 20.0
"""After this time without a listener a call is ended. A client that has made a call listens at once."""

SWEEP_SECONDS = 1.0
KEEP_SECONDS = 30.0
"""How long the messages of a call that has ended wait for a listener."""

MAX_KEPT_SESSIONS = 256
"""Of one address, whose messages are kept for a listener to come."""

Push = Callable[..., Awaitable[tuple[bool, Any, Any]]]


class QueueShares:
    """Replaces how calls enter Gradio's queue and which of them runs next, and ends those without a listener."""

    def __init__(self, queue: Any) -> None:
        self._queue, self._push = queue, queue.push
        self._callers: dict[str, Caller] = {}
        """Of the calls that wait or run, by the call's id."""

        self._sessions: dict[str, str] = {}
        """The addresses of the sessions with messages, the oldest first."""

        self._sweeper: asyncio.Task[None] | None = None
        queue.get_events = self._next
        queue.pending_messages_per_session = SessionMessages(self._unfinished)

    async def push(self, caller: Caller, body: Any, request: Any, username: Any) -> tuple[bool, Any, Any]:
        """Add a call as Gradio does, in messages of ours. The caller has been checked by `has_share`."""
        queue = self._queue
        body.session_hash = body.session_hash or uuid4().hex
        caller = caller._replace(session=body.session_hash)
        is_new = body.session_hash not in queue.pending_messages_per_session
        if is_new:
            self._forget_oldest(caller.address)
            queue.pending_messages_per_session[body.session_hash] = Messages()
            self._sessions[body.session_hash] = caller.address
        result: tuple[bool, Any, Any] = await self._push(body=body, request=request, username=username)
        if is_new and not result[0]:
            queue.pending_messages_per_session.pop(body.session_hash, None)
        if result[0] and result[1] in queue.event_ids_to_events:
            self._callers[result[1]] = caller
            if self._sweeper is None or self._sweeper.done():
                self._sweeper = asyncio.create_task(self._sweep())
        return result

    def has_share(self, address: str) -> bool:
        """Whether one more call of this address may wait."""
        waiting = Counter(self._caller(event).address for event in self._waiting())
        size = self._queue.max_size
        return bool(waiting[address] < max(1, min(MAX_WAITING_SHARE * size, size - waiting.total())))

    def has_undelivered(self) -> bool:
        """Whether a client may still get the result of a call. From any thread."""
        kept = self._queue.pending_messages_per_session
        sessions = [session for session, calls in list(self._queue.pending_event_ids_session.items()) if calls]
        found = [messages for session in sessions if (messages := kept.get(session)) is not None]
        return any(messages.seconds_alone < LISTEN_SECONDS for messages in found)

    def _next(self) -> tuple[list[Any], bool, str] | None:
        """The call that runs next, as Gradio's method returns it: of the address with the fewest that run."""
        kinds = list(self._queue.event_queue_per_concurrency_id.items())
        random.shuffle(kinds)
        for kind, waiting in kinds:
            limit = waiting.concurrency_limit
            if waiting.queue and (limit is None or waiting.current_concurrency < limit):
                event = self._fairest(waiting.queue, kind, limit)
                if event is not None:
                    waiting.queue.remove(event)
                    return [event], False, kind
        return None

    def _fairest(self, events: list[Any], kind: str, limit: int | None) -> Any:
        """The first call of the address, and at it of the session, with the fewest running calls of this kind; None
        if all have their share."""
        running = [self._caller(event) for event in self._running() if event.concurrency_id == kind]
        addresses, sessions = Counter(caller.address for caller in running), Counter(running)
        share = None if limit is None else max(1, int(MAX_RUNNING_SHARE * limit))
        allowed = [event for event in events if share is None or addresses[self._caller(event).address] < share]

        def count(event: Any) -> tuple[int, int]:
            caller = self._caller(event)
            return addresses[caller.address], sessions[caller]

        return min(allowed, key=count, default=None)

    async def _sweep(self) -> None:
        """While there are calls, end those without a listener."""
        queue = self._queue
        while (events := [*self._waiting(), *self._running()]) and not queue.stopped:
            ids = {event._id for event in events}
            self._callers = {id_: caller for id_, caller in self._callers.items() if id_ in ids}
            for session in {event.session_hash for event in events}:
                messages = queue.pending_messages_per_session.get(session)
                if messages is None or messages.seconds_alone > LISTEN_SECONDS:
                    await self._end(session)
            self._forget_unread()
            await asyncio.sleep(SWEEP_SECONDS)
        self._callers.clear()

    async def _end(self, session: str) -> None:
        """End the calls of a session: those that wait at once, and those that run before their next update."""
        await self._queue.clean_events(session_hash=session)
        for event in self._running():  # one may have begun to run meanwhile, and would miss its messages
            if event.session_hash == session:
                event.alive = False
        self._queue.pending_event_ids_session.pop(session, None)
        if session in self._queue.pending_messages_per_session:
            del self._queue.pending_messages_per_session[session]

    def _forget_unread(self) -> None:
        """Drop the messages of ended calls without a listener."""
        kept = self._queue.pending_messages_per_session
        unfinished = self._unfinished()
        for session in [session for session in self._sessions if session in kept and session not in unfinished]:
            if kept[session].seconds_alone > KEEP_SECONDS:
                del kept[session]
                self._queue.pending_event_ids_session.pop(session, None)

    def _forget_oldest(self, address: str) -> None:
        """Drop messages without a listener, so that the address keeps those of so many sessions only."""
        kept = self._queue.pending_messages_per_session
        self._sessions = {session: owner for session, owner in self._sessions.items() if session in kept}
        sessions = [session for session, owner in self._sessions.items() if owner == address]
        unfinished = self._unfinished()
        for session in sessions[: max(0, len(sessions) - MAX_KEPT_SESSIONS + 1)]:
            if session not in unfinished and kept[session].seconds_alone:
                del kept[session]
                self._queue.pending_event_ids_session.pop(session, None)

    def _unfinished(self) -> set[str]:
        """The sessions with a call that waits or runs."""
        return {event.session_hash for event in (*self._waiting(), *self._running())}

    def _waiting(self) -> Iterable[Any]:
        return (event for kind in self._queue.event_queue_per_concurrency_id.values() for event in kind.queue)

    def _running(self) -> Iterable[Any]:
        return (event for job in self._queue.active_jobs if job for event in job)

    def _caller(self, event: Any) -> Caller:
        return self._callers.get(event._id) or Caller("", event.session_hash)
