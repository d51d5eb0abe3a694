"""Cores on a fake model, and requests for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from blip_space.engine import sampling
from blip_space.engine import slots as slots_module
from blip_space.engine.core import EngineCore
from blip_space.engine.output import Output
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.options import GenerationOptions
from tests.devices import auto_is_the_processor  # noqa: F401  # a fixture
from tests.engine.fake_model import FakeModel
from tests.engine.models.driving import prompt_of
from tests.one_thread import one_thread  # noqa: F401  # a fixture


@pytest.fixture(params=(False, True), ids=("left-aligned", "slots"))
def slots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both layouts of a batch in turn: every core of the test takes this one."""
    monkeypatch.setenv("BLIP_SPACE_SLOTS", str(int(request.param)))
    return bool(request.param)


@pytest.fixture(params=(False, True), ids=("", "launched"))
def launch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps over slots computed when their ids are known, and launched before that, with ids on the device."""
    monkeypatch.setattr(slots_module, "LAUNCH_EAGER", request.param)
    monkeypatch.setattr(sampling, "computes_on_host", lambda _: not request.param)


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


class SteppedCore:
    """A core that a test steps, and the outputs of its requests."""

    def __init__(self, model: FakeModel, **limits: Any) -> None:
        self.model = model
        self.engine = EngineCore(model, EngineConfig(**limits))
        self.texts: dict[int, list[str]] = {}
        self.finished: dict[int, Output] = {}
        self.now = 0.0

    def ask(
        self, text: str, *, digest: str = "a", turns: bool = False, background: bool = False, **options: Any
    ) -> int:
        """Add a request; its id."""
        prompt, generation = prompt_of(self.model, text, digest), GenerationOptions(**options)
        pixels = (self.model.pixels(None, generation),)
        return self.engine.add(PreparedRequest(self.model.spec, prompt, pixels, generation, turns, background))

    @property
    def batch_class(self) -> Any:
        """The class of its batch."""
        return type(self.engine._runner._batch)

    def step(self, count: int = 1, *, admit: bool = True) -> None:
        """This many steps, one second apart."""
        for _ in range(count):
            self.now += 1.0
            for output in self.engine.step(self.now, admit=admit):
                self.texts.setdefault(output.id, []).append(output.text)
                if output.finished:
                    assert output.id not in self.finished
                    self.finished[output.id] = output

    def finish(self) -> None:
        """Step until no request is left; a core that never gets there fails the test."""
        for _ in range(2_000):
            if not self.engine.has_work:
                return
            self.step()
        raise AssertionError("the core never finishes")

    def text(self, number: int) -> str:
        """The final text; raises the error of a failed request."""
        if error := self.finished[number].error:
            raise error
        return self.finished[number].text


NewCore = Callable[..., SteppedCore]


@pytest.fixture
def new_core(model: FakeModel, slots: bool) -> NewCore:
    """Makes a core on the fake model, with limits."""
    return lambda **limits: SteppedCore(model, **{"slots": slots, **limits})
