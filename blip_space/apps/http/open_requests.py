"""The requests that a server is answering, so that it can stop: no new ones, time for answers, then an end for all.

A stream that is still open when the server closes would keep it waiting and be cut off without a word. Here each ends
with a sentence. One `OpenRequests` belongs to one server; its methods are called from other threads than the server's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip_space.apps.http import event_streams
from blip_space.apps.http.refusals import PROTOCOL, Refusal, is_protocol, route_path

NEW_WORK = (
    "/gradio_api/queue/join",
    "/gradio_api/call/",
    "/gradio_api/run/",
    "/gradio_api/api/",
    "/gradio_api/upload",
    "/mcp",
    f"{PROTOCOL}/",
)
"""What a stopping server refuses, if it is a POST; those that it has accepted may finish first."""

ANSWERS = ("/gradio_api/queue/data", "/gradio_api/call/")
"""Streams of answers; other streams, such as a page's heartbeat, are open as long as the page."""

POLL_SECONDS = 0.1
STOPPING = Refusal(503, "stopping", event_streams.STOPPING, {"Retry-After": "10"})


class OpenRequests:
    """Every open request of one server, and whether the server stops."""

    def __init__(self) -> None:
        self.is_stopping = False
        """Whether new calls and uploads are refused."""

        self._is_ending = False
        self._open: set[_OpenRequest] = set()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """`app` as ASGI middleware that registers each request here."""

        async def register(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
            elif self._is_ending or (self.is_stopping and _is_new_work(scope)):
                await STOPPING.send(scope, receive, send)
            else:
                await self._run(app, _OpenRequest(scope, receive, send))

        return register

    def refuse_new(self) -> None:
        """Refuse calls and uploads from now on."""
        self.is_stopping = True

    def wait_for_answers(self, seconds: float) -> bool:
        """Wait until no answer is streamed, at most that long; returns whether that is so."""
        return self._wait(lambda: not any(request.is_answer for request in self._open), seconds)

    def wait_for_work(self, seconds: float, has_calls: Callable[[], bool]) -> bool:
        """Wait until every upload and call that was accepted has ended, its answer included, at most that long; returns
        whether that is so. `has_calls` says whether Gradio's queue has calls; between two requests only it knows."""

        def is_done() -> bool:
            return not any(request.is_answer or request.is_work for request in self._open) and not has_calls()

        deadline = time.monotonic() + seconds
        while not (done := self._wait(is_done, POLL_SECONDS)) and time.monotonic() < deadline:
            pass
        return done

    def end_all(self, seconds: float) -> bool:
        """Refuse every request, end the open ones that can be ended, and wait at most that long for all."""
        self._is_ending = True
        with self._changed:
            requests, loop = list(self._open), self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(_cut, requests)
        return self._wait(lambda: not self._open, seconds)

    async def _run(self, app: ASGIApp, request: _OpenRequest) -> None:
        self._loop = asyncio.get_running_loop()
        with self._changed:
            self._open.add(request)
        try:
            await request.run(app)
        finally:
            with self._changed:
                self._open.discard(request)
                self._changed.notify_all()

    def _wait(self, is_done: Callable[[], bool], seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(is_done, seconds)


def _is_new_work(scope: Scope) -> bool:
    return scope["method"] == "POST" and route_path(scope).startswith(NEW_WORK)


def _cut(requests: list[_OpenRequest]) -> None:
    for request in requests:
        request.cut()


class _OpenRequest:
    """One request: the app that answers it runs in a task of its own, which can be cancelled."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._path = route_path(scope)
        self._task: asyncio.Task[None] | None = None
        self._is_started = self._is_stream = self._is_ended = self._is_cut = False

    @property
    def is_answer(self) -> bool:
        """Whether an answer is generated for this request."""
        if is_protocol(self._scope):
            return bool(self._scope["method"] == "POST")
        return self._scope["method"] == "GET" and self._path.startswith(ANSWERS)

    @property
    def is_work(self) -> bool:
        """Whether this is an upload, or a request that makes a call."""
        return _is_new_work(self._scope)

    async def run(self, app: ASGIApp) -> None:
        """Answer the request, or end it when it is cut."""
        self._task = asyncio.ensure_future(app(self._scope, self._receive, self._pass_on))
        try:
            await asyncio.shield(self._task)
        except (asyncio.CancelledError, Exception):
            if not self._is_cut:
                self._task.cancel()
                raise
        if self._is_cut:
            await self._end()

    def cut(self) -> None:
        """Cancel the app, unless it sends a file, whose announced length could not be kept."""
        if self._task is not None and not self._is_ended and (self._is_stream or not self._is_started):
            self._is_cut = True
            self._task.cancel()

    async def _pass_on(self, message: Message) -> None:
        if self._is_cut:  # what a cancelled generator still has to say
            return
        if message["type"] == "http.response.start":
            self._is_started = True
            headers = {name.lower(): value for name, value in message["headers"]}
            self._is_stream = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        self._is_ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def _end(self) -> None:
        if not self._is_started:
            await STOPPING.send(self._scope, self._receive, self._send)
        else:
            event = b""
            if is_protocol(self._scope):
                event = event_streams.as_event(STOPPING.protocol_error())
            elif self.is_answer:
                event = event_streams.stopping_event(self._path)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
