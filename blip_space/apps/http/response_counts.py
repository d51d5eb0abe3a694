"""Counts responses by route and status, whatever part of the server wrote them, refusals included.

A route is one of a few names, so that no caller can add names to the counts. Depends on Starlette only.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blip_space.apps.http.refusals import route_path

ROUTES = (
    ("/gradio_api/queue/join", "join"),
    ("/gradio_api/queue/", "events"),
    ("/gradio_api/call/", "call"),
    ("/gradio_api/upload", "upload"),
    ("/gradio_api/file", "file"),
    ("/gradio_api/", "gradio_api"),
    ("/v1/", "v1"),
    ("/mcp/", "mcp"),
    ("/healthz", "healthz"),
    ("/readyz", "readyz"),
    ("/metrics", "metrics"),
    ("/sign-in", "sign_in"),
)
"""The beginnings of paths and their names. The rest is the page and its files, or nothing."""


class ResponseCounts:
    """ASGI middleware: calls `count` with the route's name and the status of each response."""

    def __init__(self, app: ASGIApp, count: Callable[[str, int], object]) -> None:
        self._app, self._count = app, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count its response when it starts."""

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(_route(scope), message["status"])
            await send(message)

        await self._app(scope, receive, send_counted if scope["type"] == "http" else send)


def _route(scope: Scope) -> str:
    path = route_path(scope)
    return next((name for beginning, name in ROUTES if f"{path}/".startswith(beginning)), "page")
