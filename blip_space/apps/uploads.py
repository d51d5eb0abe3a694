"""Uploads stop before the disk is full, and none outlives its day.

Gradio limits one file, and deletes old ones while it runs; it does not limit how many arrive in between, nor delete
what a server left behind that was killed. Knows HTTP, free bytes and ages; knows nothing of Gradio beyond the end of a
path, nor of what is uploaded.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

MIN_FREE_BYTES = 1_000_000_000
DISK_FULL = "The server has no room for another picture at the moment. Try again later."


def delete_expired(folder: Path, *, max_age_seconds: float) -> None:
    """Delete the files of a folder that are older than that; those of a server that still runs are younger."""
    oldest = time.time() - max_age_seconds
    for file in folder.rglob("*"):
        try:
            if file.is_file() and file.stat().st_mtime < oldest:
                file.unlink()
        except OSError:  # another server was faster
            continue


class UploadLimit:
    """Refuses uploads, with status 507, while the disk that takes them has less than a gigabyte left."""

    def __init__(self, app: ASGIApp, folder: str) -> None:
        self._app = app
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on but uploads that there is no room for."""
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload") and not self._has_room():
            await PlainTextResponse(DISK_FULL, 507)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _has_room(self) -> bool:
        return shutil.disk_usage(self._folder).free >= MIN_FREE_BYTES
