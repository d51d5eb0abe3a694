"""Limits uploads while they arrive: their bytes and files, their callers' share of the disk, and how slow they may be.

An upload that is refused, or whose client leaves, ends as one that cannot be parsed, so that Gradio deletes what it has
stored of it. Depends on the storage of uploads.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NoReturn
from weakref import WeakValueDictionary

import anyio
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip_space.apps.http.callers import caller_of
from blip_space.apps.http.open_files import OpenFiles, raise_limit
from blip_space.apps.http.refusals import Refusal, is_upload
from blip_space.apps.http.upload_failures import DELETED, DISK_FULL
from blip_space.apps.http.upload_parts import InvalidPartError, UploadParts
from blip_space.apps.uploads import MIN_AGE_SECONDS, Limits, Shortage, Upload, UploadStorage

MAX_AT_ONCE, MAX_CALLER_AT_ONCE = 64, 16
"""Uploads that arrive at once, in all and of one caller. Others wait before anything of them is read."""

MAX_WAIT_SECONDS = 30
MIN_BYTES_PER_SECOND = 16_384
GRACE_SECONDS = 15
"""For how long nothing may arrive. The rate is a mean after this time."""

MAX_SECONDS = 1_800
"""For a whole upload. Less than `PARTIAL_SECONDS`, after which temporary files are deleted."""

MAX_DISCARDED_BYTES, DISCARD_SECONDS = 32_000_000, 10
"""How much of a refused upload is read and forgotten: a client that is still sending would not see the refusal."""

UNKNOWN = "unknown"

NOT_FILES = Refusal(
    400, "invalid_value", "The upload has something else than files, or its end is missing. Send the files again."
)
TOO_SLOW = Refusal(
    408,
    "timed_out",
    f"The upload was too slow: it needs at least {MIN_BYTES_PER_SECOND // 1024} kB a second, and {MAX_SECONDS // 60} "
    "minutes at most. Send smaller copies of the images.",
)
TOO_MANY = Refusal(
    503, "busy", "The server is busy: many uploads arrive at the moment. Try again.", {"Retry-After": "5"}
)
LEFT = Refusal(400, "invalid_value", "The client ended the upload before it was complete.")
IN_PARTS = "Send them in parts, or caption a whole folder on your own machine with python -m blip_space folder."


def too_large(limits: Limits) -> Refusal:
    """The refusal of a single upload that is over its limits."""
    size = f"{_size(limits.request_bytes)} and {limits.request_files} files"
    return Refusal(413, "too_large", f"One upload has at most {size}. {IN_PARTS}")


def share_used(limits: Limits) -> Refusal:
    """The refusal for a caller who has as much on the disk as one may have."""
    size = f"{_size(limits.caller_bytes)} or {limits.caller_files:,} files"
    minutes = MIN_AGE_SECONDS // 60
    sentence = f"Your uploads of the last {minutes} minutes take {size}, the most for one address. Try again later."
    return Refusal(429, "busy", sentence, {"Retry-After": str(MIN_AGE_SECONDS)})


def _size(count: int) -> str:
    return f"{count / 1e9:g} GB" if count >= 10**9 else f"{count / 1e6:g} MB"


class UploadLimits:
    """ASGI middleware: passes on uploads chunk by chunk, and ends each at the first limit that it reaches."""

    def __init__(self, app: ASGIApp, storage: UploadStorage) -> None:
        self._app, self._storage = app, storage
        self._open_files = OpenFiles(raise_limit(), storage.limits.request_files)
        self._all = anyio.CapacityLimiter(MAX_AT_ONCE)
        self._by_caller: WeakValueDictionary[str, anyio.CapacityLimiter] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no upload; let an upload wait for its turn, and limit it."""
        if scope["type"] != "http" or scope["method"] != "POST" or not is_upload(scope):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            parts = UploadParts(headers.get("content-type", ""))
        except InvalidPartError:
            await NOT_FILES.send(scope, receive, send)
            return
        owner = caller_of(scope).address or UNKNOWN
        turns = self._by_caller.setdefault(owner, anyio.CapacityLimiter(MAX_CALLER_AT_ONCE))
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(MAX_WAIT_SECONDS):
                    await stack.enter_async_context(turns)
                    await stack.enter_async_context(self._all)
            except TimeoutError:
                await TOO_MANY.send(scope, receive, send)
                return
            request = _Request(self._storage, self._open_files, Upload(owner), parts, receive, send)
            request.announce(headers)
            await request.run(self._app, scope)


class _Request:
    """One upload: what of it has arrived, and the refusal that ended it, if any."""

    def __init__(
        self,
        storage: UploadStorage,
        open_files: OpenFiles,
        upload: Upload,
        parts: UploadParts,
        receive: Receive,
        send: Send,
    ) -> None:
        self._storage, self._open_files = storage, open_files
        self._upload, self._parts = upload, parts
        self._receive, self._send = receive, send
        self._received = self._files = 0
        self._waited = 0.0
        self._refusal: Refusal | None = None
        self._is_complete = False
        self._start: Message | None = None
        self._reply = b""

    def announce(self, headers: Headers) -> None:
        """Refuse an upload that says itself that it is too large."""
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 20 or int(length) > self._storage.limits.request_bytes):
            self._refusal = too_large(self._storage.limits)
            self._is_complete = "expect" in headers  # the client waits for permission to send

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let the app read the upload, and answer in its place if it was refused."""
        try:
            if self._refusal is None:
                await app(scope, self.receive, self.send)
        finally:
            self._open_files.add(self._upload.owner, -self._files)
            self._storage.end(self._upload, is_deleted=self._refusal is not None)
        if self._refusal is not None and self._refusal is not LEFT:
            await self._discard()
            await self._refusal.send(scope, self._receive, self._send)

    async def receive(self) -> Message:
        """The next message for the app. Raises `MultiPartException` at a limit, and when the client left."""
        if self._is_complete:
            return await self._receive()
        message = await self._receive_in_time()
        if message["type"] == "http.disconnect":
            self._refuse(LEFT)
        chunk = message.get("body", b"")
        self._is_complete = not message.get("more_body", False)
        self._count(chunk)
        await self._make_room()
        return message

    async def send(self, message: Message) -> None:
        """Pass on the app's response unless there is a refusal; its text names the stored files, which are there."""
        if self._refusal is not None:
            return
        if message["type"] == "http.response.start" and message["status"] == 200:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._reply += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        """Answer with the paths of the stored files. Gradio does so as well if they could not be stored."""
        stored = self._storage.keep(self._upload, _paths(self._reply))
        if stored:
            await self._send(start)
            await self._send({"type": "http.response.body", "body": self._reply, "more_body": False})
        else:
            self._refusal = DELETED

    async def _receive_in_time(self) -> Message:
        allowed = min(GRACE_SECONDS + self._received / MIN_BYTES_PER_SECOND, MAX_SECONDS)
        started = time.monotonic()
        try:
            return await asyncio.wait_for(self._receive(), min(GRACE_SECONDS, allowed - self._waited))
        except TimeoutError:
            self._refuse(TOO_SLOW)
        finally:
            self._waited += time.monotonic() - started

    def _count(self, chunk: bytes) -> None:
        """Count a chunk and the files that begin in it. Raises if they are too many, or something else than files."""
        try:
            files = self._parts.feed(chunk)
        except InvalidPartError:
            self._refuse(NOT_FILES)
        self._received += len(chunk)
        self._files += files
        self._storage.add(self._upload, len(chunk), files)
        if not self._open_files.add(self._upload.owner, files):
            self._refuse(TOO_MANY)
        limits = self._storage.limits
        if self._received > limits.request_bytes or self._files > limits.request_files:
            self._refuse(too_large(limits))
        if self._is_complete and not self._parts.is_closed:
            self._refuse(NOT_FILES)

    async def _make_room(self) -> None:
        """Have older uploads deleted if there is no room for this one. Raises if there is none then."""
        if self._storage.shortage(self._upload.owner) is None:
            return
        await anyio.to_thread.run_sync(self._storage.sweep, self._upload.owner)
        shortage = self._storage.shortage(self._upload.owner)
        if shortage is not None:
            self._refuse(share_used(self._storage.limits) if shortage is Shortage.CALLER else DISK_FULL)

    def _refuse(self, refusal: Refusal) -> NoReturn:
        self._refusal = refusal
        raise MultiPartException(refusal.sentence)

    async def _discard(self) -> None:
        left = MAX_DISCARDED_BYTES
        with anyio.move_on_after(DISCARD_SECONDS):
            while left > 0 and not self._is_complete:
                message = await self._receive()
                left -= len(message.get("body", b""))
                self._is_complete = not message.get("more_body", False)


def _paths(reply: bytes) -> list[Path]:
    """The paths in Gradio's response to an upload."""
    try:
        paths = json.loads(reply)
    except ValueError:
        return []
    return [Path(path) for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
