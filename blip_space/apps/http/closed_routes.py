"""Closes what Gradio serves and this project does not use: each route that is not there cannot be misused.

Gradio's file route also fetches any public URL for anybody, without a limit; the ways to develop and to watch an app
are open unless they are closed one by one.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from blip_space.apps.http.refusals import Refusal, route_path

PREFIXES = (
    "/monitoring",
    "/openapi.json",
    "/gradio_api/component_server",
    "/gradio_api/custom_component",
    "/gradio_api/deep_link",
    "/gradio_api/dev/",
    "/gradio_api/openapi.json",
    "/gradio_api/process_recording",
    "/gradio_api/profiling",
    "/gradio_api/proxy=",
    "/gradio_api/run-history",
    "/gradio_api/runs",
    "/gradio_api/stream/",
    "/gradio_api/undo-vibe-edit",
    "/gradio_api/vibe-",
)

URL_AS_FILE = re.compile(r"/gradio_api/file[=/]\s*(?:[a-z][a-z0-9+.-]+:|//)", re.IGNORECASE)

CLOSED = Refusal(404, "not_found", "This server does not have this part of Gradio. The page's footer leads to its API.")
NO_URLS = Refusal(403, "forbidden", "That is a URL, and this server fetches none. Download it yourself.")


class ClosedRoutes:
    """ASGI middleware: answers for the routes that are closed, and passes on all other requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request if its route is closed."""
        path = route_path(scope) if scope["type"] in ("http", "websocket") else ""
        if scope["type"] == "http" and URL_AS_FILE.match(path):
            await NO_URLS.send(scope, receive, send)
        elif scope["type"] == "http" and path.startswith(PREFIXES):
            await CLOSED.send(scope, receive, send)
        else:
            await self._app(scope, receive, send)
