"""One server for the tests of a module, started once. Test clients of different addresses bind 127.0.0.2, .3, …"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import httpx
import pytest

from blip_space import settings
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, POLYGLOT, FakeEngine


@pytest.fixture(scope="session", autouse=True)
def _own_uploads() -> Iterator[None]:
    """A separate folder for the tests' uploads, and no telemetry."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", folder)
        settings.prepare_libraries()
        yield


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    """The engine behind the server of this module."""
    return FakeEngine(PARROT, POLYGLOT)


@pytest.fixture(scope="module")
def url(_own_uploads: None, engine: FakeEngine) -> Iterator[str]:
    """The address of a server of this module's own."""
    from blip_space.apps import server  # Gradio is imported once its environment is prepared

    running = server.launch(engine, host="127.0.0.1", port=free_port())
    yield running.url.rstrip("/")
    running.close()


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    """Plain HTTP, for requests that no regular client would send."""
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client
