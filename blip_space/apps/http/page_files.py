"""Keeps the files of Gradio's page in memory, as they were first sent, and lets browsers keep them.

The page is some 100 small files, each of which Gradio finds, reads and compresses again for every user. Depends on
Starlette only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip_space.apps.http.refusals import route_path

CACHE_CONTROL = {
    "/assets/": "public, max-age=31536000, immutable",  # a file's name has the hash of its content
    "/static/": "public, max-age=86400",
    "/theme.css": "public, max-age=86400",
}
"""The beginnings of the paths that are kept, and how long a browser may use what it has."""

ENCODINGS = ("br", "gzip")
"""The compressions that Gradio knows, in its order."""

MAX_FILE_BYTES = 1024**2
MAX_BYTES = 32 * 1024**2
"""The largest file that is kept, and what all may take together. The page's files take 1 MB in each encoding."""

File = tuple[Message, bytes]
"""The start of a response, and its body."""


class _Response:
    """A response on its way. `keep` takes the whole of it before its end is sent, so that the next request finds it."""

    def __init__(self, send: Send, cache_control: str, keep: Callable[[File], None]) -> None:
        self._send, self._cache_control, self._keep = send, cache_control, keep
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)["cache-control"] = self._cache_control
            self._start = {**message, "headers": list(message["headers"])}
        elif self._start and len(self._body) <= MAX_FILE_BYTES:
            self._body += message.get("body", b"")
            if not message.get("more_body") and len(self._body) <= MAX_FILE_BYTES:
                MutableHeaders(scope=self._start)["content-length"] = str(len(self._body))
                self._keep((self._start, self._body))
        await self._send(message)


class PageFiles:
    """ASGI middleware: responds from memory to all but the first request for a file."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: dict[tuple[str, str], File] = {}
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the kept file, or pass the request on and keep the response."""
        cache_control = _cache_control(scope)
        if cache_control is None:
            await self._app(scope, receive, send)
            return
        accepted = Headers(scope=scope).get("accept-encoding", "")
        key = scope["path"], next((name for name in ENCODINGS if name in accepted), "")
        if kept := self._kept.get(key):
            start, body = kept
            await send({**start, "headers": list(start["headers"])})
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, _Response(send, cache_control, partial(self._keep, key)))

    def _keep(self, key: tuple[str, str], file: File) -> None:
        size = len(file[1])
        if self._bytes + size > MAX_BYTES:
            self._kept.clear()
            self._bytes = 0
        if key not in self._kept:
            self._kept[key] = file
            self._bytes += size


def _cache_control(scope: Scope) -> str | None:
    """How long a browser may use the response to this request, or None if it is not a whole file of the page."""
    if scope["type"] != "http" or scope["method"] != "GET" or "range" in Headers(scope=scope):
        return None
    path = route_path(scope)
    return next((value for start, value in CACHE_CONTROL.items() if path.startswith(start)), None)
