"""A server below a path of a reverse proxy: the page, the API and its client, whether the proxy removes it or not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from blip_space.apps import server
from blip_space.settings import Settings
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.example_images import blue_circles

ROOT_PATH = "/tools/blip"


@pytest.fixture(scope="module")
def direct(_own_uploads: None) -> Iterator[str]:
    """The server as a proxy sees it that passes paths on as they are."""
    running = server.launch(
        FakeEngine(PARROT), host="127.0.0.1", port=free_port(), settings=Settings(root_path=ROOT_PATH)
    )
    yield running.url.rstrip("/")
    running.close()


class _Proxy(BaseHTTPRequestHandler):
    """Removes the path from requests; the response is passed on while it arrives."""

    target = ""

    def _pass_on(self) -> None:
        path = self.path.removeprefix(ROOT_PATH)
        if path == self.path:
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
        headers |= {"X-Forwarded-Host": self.headers["Host"], "Accept-Encoding": "identity"}
        with httpx.stream(
            self.command, self.target + path, headers=headers, content=body or None, timeout=30
        ) as response:
            self.send_response(response.status_code)
            for name, value in response.headers.items():
                if name not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            for chunk in response.iter_raw():
                self.wfile.write(chunk)
                self.wfile.flush()

    do_GET = do_POST = do_HEAD = _pass_on  # noqa: N815  # names of the library

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def behind_proxy(direct: str) -> Iterator[str]:
    """The same server behind a proxy that removes the path."""
    handler = type("Proxy", (_Proxy,), {"target": direct})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{proxy.server_address[1]}"
    proxy.shutdown()
    proxy.server_close()


@pytest.fixture(params=["direct", "behind_proxy"])
def url(request: pytest.FixtureRequest) -> str:
    """The address of the page."""
    return f"{request.getfixturevalue(request.param)}{ROOT_PATH}/"


def test_the_client_works(url: str, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(blue_circles())
    client = Client(url, verbose=False)
    assert client.predict(handle_file(image), "one two", api_name="/chat") == "one two"


def test_the_page_and_its_files_have_the_path(url: str) -> None:
    with httpx.Client(timeout=20) as web:
        page = web.get(url).raise_for_status().text
        assert f'"root":"{url.rstrip("/")}"' in page.replace(" ", "")
        assets = {address for address in re.findall(r'(?:src|href)="([^"]+)"', page) if "assets/" in address}
        assert assets
        for address in sorted(assets)[:3]:
            web.get(str(httpx.URL(url).join(address))).raise_for_status()
        assert web.get(f"{url}readyz").json() == {"status": "ready"}


def test_paths_that_only_begin_alike_are_not_below_it(direct: str) -> None:
    with httpx.Client(base_url=direct, timeout=20) as web:
        assert web.get(f"{ROOT_PATH}er/healthz").status_code == 404
        assert web.get("/healthz").status_code == 200
