"""Refuses uploads before the disk is full, and deletes expired files.

Gradio limits the size of one file and deletes old files while it runs. It does not limit the number of files, and does
not delete the files of a server that was killed. Depends on HTTP and disk space only, and on Gradio's upload path.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from blip_space.apps.http.refusals import Refusal

MIN_FREE_BYTES = 1_000_000_000
DISK_FULL = "The server has no disk space for another image at the moment. Try again later."


def delete_expired(folder: Path, *, max_age_seconds: float) -> None:
    """Delete files in `folder` older than `max_age_seconds`. A running server deletes its own before that age."""
    expired_before = time.time() - max_age_seconds
    for file in folder.rglob("*"):
        try:
            if file.is_file() and file.stat().st_mtime < expired_before:
                file.unlink()
        except OSError:  # another server deleted it first
            continue


class UploadLimit:
    """ASGI middleware: refuses uploads with status 507 while less than a gigabyte is free on the disk of `folder`."""

    def __init__(self, app: ASGIApp, folder: str) -> None:
        self._app = app
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the app, unless it is an upload and the disk is full."""
        is_upload = scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload")
        if is_upload and shutil.disk_usage(self._folder).free < MIN_FREE_BYTES:
            await Refusal(507, "disk_full", DISK_FULL).send(scope, receive, send)
        else:
            await self._app(scope, receive, send)
