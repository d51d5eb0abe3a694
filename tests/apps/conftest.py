"""One server for all tests of the page and its API, one browser, and a new browser context for each test."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Page, expect

from blip_space import settings
from tests.apps.browser import PROMPT, ask_and_wait, upload
from tests.apps.fake_engine import PARROT, POLYGLOT, FakeEngine
from tests.example_images import blue_circles, write_zip

PAGE_MILLISECONDS = 60_000
"""How long a test waits for a change of the page: a busy machine takes many times as long as an idle one."""

expect.set_options(timeout=PAGE_MILLISECONDS)


def free_port() -> int:
    """An unused port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session", autouse=True)
def _own_uploads() -> Iterator[None]:
    """A separate folder for the tests' uploads, and no telemetry."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", folder)
        settings.prepare_libraries()
        yield


@pytest.fixture(scope="session")
def _server(_own_uploads: None) -> Iterator[tuple[str, FakeEngine]]:
    from blip_space.apps import server  # Gradio is imported once its environment is prepared

    engine = FakeEngine(PARROT, POLYGLOT)
    running = server.launch(engine, host="127.0.0.1", port=free_port())
    yield running.url.rstrip("/"), engine
    running.close()


@pytest.fixture
def url(_server: tuple[str, FakeEngine]) -> str:
    """The address of the page."""
    return _server[0]


@pytest.fixture(autouse=True)
def engine(_server: tuple[str, FakeEngine]) -> Iterator[FakeEngine]:
    """The engine behind the page, reset before and after each test."""
    _server[1].reset()
    yield _server[1]
    _server[1].reset()


@pytest.fixture(scope="session")
def _client(_server: tuple[str, FakeEngine]) -> Client:
    return Client(_server[0], verbose=False)


@pytest.fixture
def client(_client: Client) -> Client:
    """A client of the API."""
    return _client


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    """Plain HTTP, for requests that no regular client would send."""
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three blue circles, 400 by 200 pixels."""
    file = tmp_path_factory.mktemp("images") / "circles.png"
    file.write_bytes(blue_circles())
    return file


@pytest.fixture
def zip_file(tmp_path: Path) -> Path:
    """A zip of twenty images."""
    return write_zip(tmp_path / "images.zip")


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, open in a new browser context. Fails when the page raises an error in the browser, or the
    content policy refuses a part of it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(PAGE_MILLISECONDS)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.goto(url)
    page.locator("#budget .budget").wait_for(state="attached")
    yield page
    context.close()
    assert not errors


@pytest.fixture
def answered_page(page: Page, image_file: Path) -> Page:
    """A page with an image, one question and its answer."""
    upload(page, image_file)
    ask_and_wait(page, PROMPT)
    return page
