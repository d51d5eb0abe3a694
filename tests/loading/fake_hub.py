"""A local mock of the hub: serves folders as repositories over HTTP to the real client.

It has no large-file storage, no branches and one account.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "c0ffee" * 6 + "c0de"


class Hub:
    """`folders` and `refusals` (status and error code) by repository; `downloads` are the names of downloaded files."""

    def __init__(self, folders: dict[str, Path], refusals: dict[str, tuple[int, str]]) -> None:
        self.folders = folders
        self.refusals = refusals
        self.downloads: list[str] = []
        self.starts: list[int] = []
        """The offset at which each download of weights began."""

        self.break_after_bytes, self.breaks = 50_000, 0
        """The next `breaks` downloads of weights end after so many bytes."""

        self.private: dict[str, str] = {}
        """Repositories with the token that grants access."""

        self.url = ""


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """The hub at `hub.url` while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the base class's name
            parts = self.path.split("?")[0].strip("/").split("/")
            is_api = parts[:2] == ["api", "models"]
            owner, name, *rest = parts[2:] if is_api else parts
            repository = f"{owner}/{name}"
            if (
                self.headers.get("Authorization", "") != f"Bearer {hub.private[repository]}"
                if repository in hub.private
                else False
            ):
                self.respond(b"", 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no"})
            elif repository not in hub.folders:
                status, code = hub.refusals.get(repository, (404, "RepoNotFound"))
                self.respond(b"", status, {"X-Error-Code": code, "X-Error-Message": "no"})
            elif is_api:
                self.respond(json.dumps(describe_repository(hub.folders[repository], repository, rest)).encode())
            else:
                self.send_file(hub.folders[repository] / rest[-1])

        do_HEAD = do_GET  # noqa: N815  # the base class's name

        def send_file(self, file: Path) -> None:
            content = file.read_bytes()
            size = len(content)
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            if start:
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            if self.command == "GET":
                hub.downloads.append(file.name)
                hub.starts += [start] * (file.suffix == ".safetensors")
            self.respond(content[start:], 206 if start else 200, headers)

        def respond(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                if hub.breaks and len(content) > hub.break_after_bytes:
                    hub.breaks -= 1
                    content = content[: hub.break_after_bytes]
                    self.close_connection = True
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def describe_repository(folder: Path, repository: str, rest: list[str]) -> Any:
    """The API's description of a repository or its tree."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    if rest[:1] == ["tree"]:
        oid = "0" * 40
        return [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": oid} for file in files]
    return {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": file.name} for file in files], "tags": []}
