"""One server of OpenAI's protocol for each module, and engines of its models."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from blip_space import catalogue
from blip_space.engine.request import EngineConfig
from blip_space.serving.remote.attempts import Timeouts
from blip_space.serving.remote.engine import RemoteEngine
from tests.serving.remote.openai_server import OpenAIServer, running_server

Open = Callable[..., RemoteEngine]


@pytest.fixture(scope="module")
def _server() -> Iterator[OpenAIServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def server(_server: OpenAIServer) -> OpenAIServer:
    """The server, without earlier requests."""
    _server.requests.clear()
    _server.keys.clear()
    _server.listing_status = 200
    _server.may_end.clear()
    _server.held.clear()
    _server.left.clear()
    return _server


@pytest.fixture
def open_engine(server: OpenAIServer) -> Iterator[Open]:
    """Starts the engine of a model, which waits `silence` seconds for a part of an answer."""
    engines: list[RemoteEngine] = []

    def open_model(
        model: str = "echo", *, key: str = "", config: EngineConfig | None = None, silence: float = 60.0
    ) -> RemoteEngine:
        spec = catalogue.find_model(server.name(model), folders=True)
        engine = RemoteEngine(
            spec, key=key, config=config, timeouts=Timeouts(connect=20.0, silence=silence, models=20.0)
        )
        engines.append(engine)
        engine.start()
        return engine

    yield open_model
    for engine in engines:
        engine.stop()
