"""A server below a path of a reverse proxy, such as https://example.org/blip/.

Some proxies remove that path from requests, others pass it on. It is removed here, so that both work; Gradio gets it
as well, and puts it in front of the addresses that the page uses.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """ASGI middleware: removes `root_path`, which starts with a slash, from the beginning of every path."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] in ("http", "websocket") and self._is_below(scope["path"]):
            raw: bytes = scope.get("raw_path") or b""
            prefix = self._root_path.encode()
            raw = raw.removeprefix(prefix) if raw.startswith(prefix) else scope["path"].encode()
            scope = {**scope, "path": scope["path"].removeprefix(self._root_path) or "/", "raw_path": raw or b"/"}
        await self._app(scope, receive, send)

    def _is_below(self, path: str) -> bool:
        return path == self._root_path or path.startswith(f"{self._root_path}/")
