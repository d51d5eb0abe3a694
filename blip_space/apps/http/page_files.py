"""Keeps the files of Gradio's page in memory, as they were first sent, and lets browsers keep them.

The page is some 100 small files, each of which Gradio finds, reads and compresses anew for every user. Depends on
Starlette only.
"""

from __future__ import annotations

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
"""The largest file that is kept, and what all may take together: those that the page needs take 1 MB in each encoding."""


class _Response:
    """A response on its way, which remembers what was sent."""

    def __init__(self, send: Send, cache_control: str) -> None:
        self._send, self._cache_control = send, cache_control
        self._start: Message | None = None
        self._body = b""
        self._is_whole = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)["cache-control"] = self._cache_control
            self._start = {**message, "headers": list(message["headers"])}
        elif self._start and len(self._body) <= MAX_FILE_BYTES:
            self._body += message.get("body", b"")
            self._is_whole = not message.get("more_body", False)
        await self._send(message)

    def messages(self) -> tuple[Message, Message] | None:
        """The start and the body in one, or None if this is no file, or too large, or was not sent to its end."""
        if not self._start or not self._is_whole or len(self._body) > MAX_FILE_BYTES:
            return None
        MutableHeaders(scope=self._start)["content-length"] = str(len(self._body))
        return self._start, {"type": "http.response.body", "body": self._body}


class PageFiles:
    """ASGI middleware: responds from memory to all but the first request for a file."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: dict[tuple[str, str], tuple[Message, Message]] = {}
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
            for message in kept:
                await send(message)
            return
        response = _Response(send, cache_control)
        await self._app(scope, receive, response)
        if messages := response.messages():
            self._keep(key, messages)

    def _keep(self, key: tuple[str, str], messages: tuple[Message, Message]) -> None:
        size = len(messages[1]["body"])
        if self._bytes + size > MAX_BYTES:
            self._kept.clear()
            self._bytes = 0
        if key not in self._kept:
            self._kept[key] = messages
            self._bytes += size


def _cache_control(scope: Scope) -> str | None:
    """How long a browser may use the response to this request, or None if it is no file of the page or a part of one."""
    if scope["type"] != "http" or scope["method"] != "GET" or "range" in Headers(scope=scope):
        return None
    path = route_path(scope)
    return next((value for start, value in CACHE_CONTROL.items() if path.startswith(start)), None)
