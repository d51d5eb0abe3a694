"""Limits the body of every request, by its route: its bytes while they arrive, and its values before they are parsed.

Bytes alone do not bound what parsing takes: every `[]` of two bytes becomes an object of 56. Quotes, brackets, commas
and colons are counted first, and outside the event loop, which serves everybody. Uploads are stored while they arrive
and have limits of their own.
"""

from __future__ import annotations

import asyncio

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip_space.apps.http.body_memory import RELEASE, BodyMemory, release_body
from blip_space.apps.http.callers import caller_of
from blip_space.apps.http.refusals import Refusal, is_upload, route_path
from blip_space.images import MAX_UPLOAD_BYTES

SMALL_BYTES = 65_536
CALL_BYTES = 4_000_000
"""A call of the API or the page. A history is at most 1 MB, which JSON's escapes may make three times as long."""

DATA_BYTES = 30_000_000
"""A request that contains its images as base64."""

CALL_ROUTES = ("/gradio_api/queue/join", "/gradio_api/call/", "/gradio_api/run/", "/gradio_api/api/")
DATA_ROUTES = ("/v1/", "/mcp")

MAX_VALUES = 60_000
"""Of one body: brackets, commas and colons outside of strings. A history of 1,000 messages has 5,000, or 20,000 as
the page sends it; one of 10,000 is still refused for its messages."""

MAX_QUOTES = 4 * MAX_VALUES
MAX_DEPTH = 100
BODY_SECONDS = 60
"""Until a body is complete. 4 MB need 0.5 Mbit/s."""

MAX_DISCARDED_BYTES = 32_000_000
"""How much of a refused body is read and forgotten: a client that is still sending would not see the refusal."""

INLINE_BYTES = 16_384
"""A body up to this size is checked at once, which takes less time than to start a thread."""

MAX_CHECKS = 2
"""How many bodies are checked at once."""

TOO_MANY_VALUES = Refusal(
    413,
    "too_large",
    f"The request has more than {MAX_VALUES:,} values, or is nested more than {MAX_DEPTH} levels deep. Send less.",
)
TOO_MANY_BODIES = Refusal(
    503, "busy", "Many requests with images arrive at once. Try again in a moment.", {"Retry-After": "5"}
)
TOO_SLOW = Refusal(408, "timed_out", f"The request did not arrive within {BODY_SECONDS} seconds. Send it again.")


class _BodyError(Exception):
    """A body that is not read further, and the refusal it gets."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


class BodyLimits:
    """ASGI middleware: reads a body within its limits, checks it, and only then calls the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._memory = BodyMemory()
        self._checks = anyio.CapacityLimiter(MAX_CHECKS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        has_body = "content-length" in headers or "transfer-encoding" in headers
        if not has_body or is_upload(scope):
            await self._app(scope, receive, send)
            return
        try:
            scope = await self._reserve(scope, headers)
            body = await _read_in_time(receive, byte_limit(route_path(scope)), headers)
            if body is None:
                return
            await self._check(body)
            receive_again = _replay(body, receive)
            del body
            await self._app(scope, receive_again, send)
        except _BodyError as error:
            await error.refusal.send(scope, receive, send)
        finally:
            release_body(scope)

    async def _reserve(self, scope: Scope, headers: Headers) -> Scope:
        """The request with memory for its body, if it may contain images."""
        limit = byte_limit(route_path(scope))
        if limit < DATA_BYTES:
            return scope
        size = min(limit, _declared_length(headers) or limit)
        try:
            release = await self._memory.reserve(caller_of(scope).address, size)
        except TimeoutError:
            raise _BodyError(TOO_MANY_BODIES) from None
        return {**scope, RELEASE: release}

    async def _check(self, body: bytes) -> None:
        if len(body) <= INLINE_BYTES:
            is_bounded = has_bounded_values(body)
        else:
            is_bounded = await anyio.to_thread.run_sync(has_bounded_values, body, limiter=self._checks)
        if not is_bounded:
            raise _BodyError(TOO_MANY_VALUES)


def byte_limit(path: str) -> int:
    """The largest body of a request to this path."""
    if path.startswith(CALL_ROUTES):
        return CALL_BYTES
    return DATA_BYTES if path.startswith(DATA_ROUTES) else SMALL_BYTES


def has_bounded_values(body: bytes) -> bool:
    """Whether parsing `body` as JSON creates a bounded number of objects at a bounded depth. It may be no JSON.

    Takes time in proportion to the bytes, and only a bounded amount of it in Python code.
    """
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # no quote that is left is part of a string
    if text.count(b'"') > MAX_QUOTES:
        return False
    structure = b"".join(text.split(b'"')[::2])
    if sum(map(structure.count, (b"[", b"{", b",", b":"))) > MAX_VALUES:
        return False
    depth = 0
    for character in structure.translate(None, _NOT_BRACKETS):
        depth += 1 if character in b"[{" else -1
        if depth > MAX_DEPTH:
            return False
    return True


_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


async def _read_in_time(receive: Receive, limit: int, headers: Headers) -> bytes | None:
    try:
        return await asyncio.wait_for(_read(receive, limit, headers), BODY_SECONDS)
    except TimeoutError:
        raise _BodyError(TOO_SLOW) from None


async def _read(receive: Receive, limit: int, headers: Headers) -> bytes | None:
    """The whole body; None if the client left first. Raises `_BodyError` once there are more than `limit` bytes."""
    declared = _declared_length(headers)
    if declared > limit:
        may_read = declared <= limit + MAX_DISCARDED_BYTES and "expect" not in headers
        await _reject(receive, limit, may_read=may_read)
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            del chunks
            await _reject(receive, limit, may_read=message.get("more_body", False))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _declared_length(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


async def _reject(receive: Receive, limit: int, *, may_read: bool) -> None:
    left = MAX_DISCARDED_BYTES + limit
    while may_read and left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        may_read = message.get("more_body", False)
    if limit == DATA_BYTES:
        hint = f"Send a smaller image; one of {MAX_UPLOAD_BYTES // 10**6} MB fits as base64."
    elif limit >= CALL_BYTES:
        hint = "Upload images as files, and send only the newest turns of a conversation."
    else:
        hint = "Nothing here takes as much."
    size = f"{limit // 10**6} MB" if limit >= 10**6 else f"{limit // 1024} kB"
    raise _BodyError(Refusal(413, "too_large", f"The request has more than {size}. {hint}"))


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the whole body, and then what the server still reports, such as a disconnect."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
