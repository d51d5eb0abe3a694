"""Uploads stop before the disk is full.

Gradio limits one file and deletes old ones, but not how many arrive in between. Knows HTTP and free bytes; knows
nothing of Gradio beyond the end of a path, nor of what is uploaded.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

MIN_FREE_BYTES = 1_000_000_000
FULL = "The server has no room for another picture at the moment. Try again later."


class UploadLimit:
    """Refuses uploads, with status 507, while the disk that takes them has less than a gigabyte left."""

    def __init__(self, app: ASGIApp, folder: str) -> None:
        self._app = app
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but uploads that there is no room for."""
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload") and not self._has_room():
            await PlainTextResponse(FULL, 507)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _has_room(self) -> bool:
        return shutil.disk_usage(self._folder).free >= MIN_FREE_BYTES
