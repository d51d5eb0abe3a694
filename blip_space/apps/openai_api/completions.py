"""One chat completion: from the body of its request to the last byte of its response.

Bodies are read and images prepared on threads, everything else is done on the event loop. A client that leaves cancels
its answer at once. Depends on the engine's protocol and ASGI only.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from blip_space.apps.http.body_memory import release_body
from blip_space.apps.http.callers import caller_of
from blip_space.apps.http.clients import client_of
from blip_space.apps.http.event_streams import as_event
from blip_space.apps.http.refusals import Refusal
from blip_space.apps.openai_api import forms
from blip_space.apps.openai_api.body import parse_body
from blip_space.apps.openai_api.conversation import parse_messages
from blip_space.apps.openai_api.forms import Completion, FinishReason, Usage
from blip_space.apps.openai_api.reading import read
from blip_space.apps.openai_api.statuses import as_refusal
from blip_space.callers import Caller, current_caller
from blip_space.engine.request import Request
from blip_space.errors import BusyError, UserError
from blip_space.images.uploaded import UploadedImageFile
from blip_space.serving.observed import current_client, current_endpoint
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.response import ResponseStream

log = logging.getLogger(__name__)

ENDPOINT = "v1_chat_completions"
"""What these calls are called where endpoints are counted."""

MAX_PREPARING = 64
"""How many requests are read and prepared at once, each on a thread of its own."""

UPDATE_SECONDS = 1 / 15
"""The least time between two chunks of a stream."""

HEARTBEAT_SECONDS = 5.0
"""After so long without text a stream begins, so that its client sees that it is answered; until then an error still
has its own status. Then comments follow at this interval."""

LEFT = "The client has left."
CHANGED = "The answer was generated again after an error, and differs from the part that was sent. Ask again."
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ChatCompletions:
    """ASGI application of the endpoint."""

    def __init__(
        self,
        engine: EngineProtocol,
        find_obstacle: Callable[[], Refusal | None],
        count: Callable[[str, str], object],
    ) -> None:
        self._engine, self._find_obstacle, self._count = engine, find_obstacle, count
        self._threads = anyio.CapacityLimiter(MAX_PREPARING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; if its client leaves, cancel the answer."""
        current_endpoint.set(ENDPOINT)
        current_client.set(client_of(scope))
        submission = _Submission(self._engine)
        # each call is a session, so that the images of a program with many users are not decoded one by one
        current_caller.set(Caller(caller_of(scope).address, f"call {id(submission)}"))
        body = await _read_body(receive)
        if body is None:
            return
        answering = asyncio.ensure_future(self._answer(body, submission, scope, receive, send))
        leaving = asyncio.ensure_future(_wait_until_left(receive))
        del body
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            submission.leave()

    async def _answer(self, body: bytes, submission: _Submission, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await anyio.to_thread.run_sync(self._submit, body, submission, limiter=self._threads)
        del body
        stream = _Stream(send)
        reply = await _reply(answer, stream, scope) if isinstance(answer, _Answer) else answer
        self._count(ENDPOINT, reply.code if isinstance(reply, Refusal) else "answered")
        if isinstance(reply, Response):
            await reply(scope, receive, send)
        elif isinstance(reply, Refusal) and not stream.is_started:
            await reply.send(scope, receive, send)
        else:
            await stream.end(as_event(reply.protocol_error()) if isinstance(reply, Refusal) else reply)

    def _submit(self, body: bytes, submission: _Submission) -> _Answer | Refusal:
        """Read a body and submit its request; on a thread, since its image is decoded."""
        if obstacle := self._find_obstacle():
            return obstacle
        try:
            parsed = parse_body(body)
            conversation = parse_messages(parsed.messages)
            language = "en" if parsed.language is None else parsed.language
            spec = self._engine.resolve_model(parsed.model or "", language)
            options = parsed.generation_options(spec)
            image = UploadedImageFile(conversation.image)
            request = Request(image, conversation.prompt, language, conversation.turns, spec.name, options)
            response = submission.submit(request)
        except UserError as error:
            return as_refusal(error)
        include_usage = bool(parsed.stream_options and parsed.stream_options.include_usage)
        completion = Completion(spec.name, include_usage=include_usage)
        return _Answer(response, completion, is_streamed=bool(parsed.stream), max_new_tokens=options.max_new_tokens)


class _Submission:
    """A request on its way to the engine, whose client may leave at any time."""

    def __init__(self, engine: EngineProtocol) -> None:
        self._engine, self._lock = engine, threading.Lock()
        self._response: ResponseStream | None = None
        self._has_left = False

    def submit(self, request: Request) -> ResponseStream:
        """Submit the request, unless its client has left."""
        if self._has_left:
            raise BusyError(LEFT)
        response = self._engine.submit(request)
        with self._lock:
            self._response = response
        if self._has_left:
            response.cancel()
        return response

    def leave(self) -> None:
        """Cancel the answer, if it has not ended."""
        with self._lock:
            self._has_left = True
            response = self._response
        if response:
            response.cancel()


@dataclass(frozen=True)
class _Answer:
    """An answer that the engine generates, and how it is sent."""

    response: ResponseStream
    completion: Completion
    is_streamed: bool
    max_new_tokens: int

    @property
    def usage(self) -> Usage:
        return Usage(self.response.prompt_tokens, self.response.tokens)

    @property
    def finish_reason(self) -> FinishReason:
        return "length" if self.response.tokens >= self.max_new_tokens else "stop"


class _Stream:
    """The response as a stream of events, which begins with the first of them."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_started = False
        self.text = ""
        """What has been sent."""

    async def add(self, text: str, completion: Completion) -> None:
        """Send what is new of the text so far, or a comment if there is nothing new."""
        events = b"" if self.is_started else completion.first_chunk()
        if text != self.text and text.startswith(self.text):
            events += completion.chunk(text[len(self.text) :])
            self.text = text
        await self._send_events(events or forms.COMMENT, more=True)

    async def end(self, events: bytes) -> None:
        """Send the last events."""
        await self._send_events(events, more=False)

    async def _send_events(self, events: bytes, *, more: bool) -> None:
        if not self.is_started:
            self.is_started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        await self._send({"type": "http.response.body", "body": events, "more_body": more})


async def _reply(answer: _Answer, stream: _Stream, scope: Scope) -> Response | bytes | Refusal:
    """The whole response; of a streamed answer the last events, after the others have been sent."""
    text, completion = "", answer.completion
    updates = read(answer.response, interval_seconds=UPDATE_SECONDS, heartbeat_seconds=HEARTBEAT_SECONDS)
    try:
        async for text in updates:
            if text:
                release_body(scope)  # until then the image may wait to be decoded
            if answer.is_streamed:
                await stream.add(text, completion)
    except UserError as error:
        return as_refusal(error)
    if not answer.is_streamed:
        return JSONResponse(completion.whole(text, answer.finish_reason, answer.usage))
    if text != stream.text:
        log.error("an answer was generated again and differs from its first part")
        return as_refusal(UserError(CHANGED, code="internal_error"))
    return completion.last_chunks(answer.finish_reason, answer.usage)


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body, whose size the middleware has limited; None if the client has left."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _wait_until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
