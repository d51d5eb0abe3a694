"""Engines on models of words, ended after each test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from blip_space.engine.request import EngineConfig
from blip_space.errors import ModelError
from blip_space.inference.engine import Engine
from blip_space.model.steps import Step
from tests.inference.fake_model import FakeModel, spec

Build = Callable[..., Engine]


class Loading:
    """Loads fakes, remembers them, and fails for the names it is told to."""

    def __init__(self) -> None:
        self.models: list[FakeModel] = []
        self.failing: set[str] = set()
        self.gate: threading.Semaphore | None = None

    def __call__(self, its_spec: Any, precision: str, progress: Any) -> Any:
        assert precision == "auto"
        progress(Step("load", 1, 4))
        assert all(model.closed for model in self.models), "two models in memory"
        if its_spec.name in self.failing:
            raise ModelError(f"{its_spec.name} has no weights. Download it again.")
        self.models.append(FakeModel(its_spec))
        self.models[-1].gate = self.gate
        return self.models[-1]


@pytest.fixture
def loading() -> Loading:
    return Loading()


@pytest.fixture
def build(loading: Loading) -> Iterator[Build]:
    made: list[Engine] = []

    def _build(*names: str, **limits: Any) -> Engine:
        specs = [spec(name) for name in names or ("fake",)]
        made.append(Engine(specs, load=loading, config=replace(EngineConfig(), **limits)))
        made[-1].start()
        return made[-1]

    yield _build
    if loading.gate is not None:
        loading.gate.release(10_000)
    for engine in made:
        engine.stop()


def until(condition: Callable[[], bool]) -> None:
    """Wait for a state of another thread; a test that waits in vain fails by its time limit."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.002)
