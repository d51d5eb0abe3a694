"""Engines with fake models, stopped after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import EngineConfig
from blip_space.serving.threaded import ThreadedEngine
from tests.engine.fake_model import spec
from tests.one_thread import one_thread  # noqa: F401  # a fixture
from tests.serving.fakes import FakeLoader

Build = Callable[..., ThreadedEngine]


@pytest.fixture
def loading() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def build(loading: FakeLoader) -> Iterator[Build]:
    """Builds an engine for models by name or spec, and starts it unless `start` is false."""
    engines: list[ThreadedEngine] = []

    def _build(*models: str | ModelSpec, start: bool = True, **config: Any) -> ThreadedEngine:
        specs = [model if isinstance(model, ModelSpec) else spec(model) for model in models or ("fake",)]
        engine = ThreadedEngine(
            specs,
            config=EngineConfig(**config),
            load=loading,
            load_preparation=loading.prepare,
            find_memory=loading.find_memory,
            clock=loading.clock,
        )
        engines.append(engine)
        if start:
            engine.start()
        return engine

    yield _build
    loading.may_finish.set()
    if loading.gate is not None:
        loading.gate.release(10_000)
    for engine in engines:
        engine.stop()
