"""One server for all tests of the page and its API, one browser, and a fresh visitor for each test."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, sync_playwright

from blip_space import settings
from tests.apps.fake_engine import PARROT, POLYGLOT, FakeEngine
from tests.example_images import blue_circles

BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session", autouse=True)
def _own_uploads() -> Iterator[None]:
    """Uploads of the tests lie in a folder of their own, and nothing calls home."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", folder)
        settings.prepare_libraries()
        yield


@pytest.fixture(scope="session")
def _server(_own_uploads: None) -> Iterator[tuple[str, FakeEngine]]:
    from blip_space.apps import server  # Gradio is imported once it has been told to be quiet

    engine = FakeEngine(PARROT, POLYGLOT)
    up = server.launch(engine, host="127.0.0.1", port=free_port())
    yield up.url.rstrip("/"), engine
    up.close()


@pytest.fixture
def url(_server: tuple[str, FakeEngine]) -> str:
    """Where the page is."""
    return _server[0]


@pytest.fixture(autouse=True)
def engine(_server: tuple[str, FakeEngine]) -> Iterator[FakeEngine]:
    """The engine behind the page, for each test as after its start."""
    _server[1].reset()
    yield _server[1]
    _server[1].reset()


@pytest.fixture(scope="session")
def _client(_server: tuple[str, FakeEngine]) -> Client:
    return Client(_server[0], verbose=False)


@pytest.fixture
def client(_client: Client) -> Client:
    """A program that calls the API."""
    return _client


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    """Plain HTTP, for what no well-meaning program would send."""
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three blue circles, 400 by 200."""
    file = tmp_path_factory.mktemp("pictures") / "circles.png"
    file.write_bytes(blue_circles())
    return file


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; without it these tests are skipped, except where CI says that it must be there."""
    chromium = shutil.which("chromium")
    if chromium is None:
        message = "no chromium: on Debian, `apt-get install chromium`"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A visitor of their own who has the page open. Fails when the page says anything in the browser's console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(10_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    page.locator("#budget .budget").wait_for()
    yield page
    context.close()
    assert not complaints
