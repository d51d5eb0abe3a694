"""Cores on a model of words, and requests for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from blip_space.engine.core import EngineCore
from blip_space.engine.output import Output
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.options import GenerationOptions
from tests.engine.fake_model import FakeModel
from tests.engine.models.driving import prompt_of
from tests.one_thread import one_thread  # noqa: F401  # a fixture

Ask = Callable[..., PreparedRequest]


@pytest.fixture(params=(False, True), ids=("left-aligned", "slots"))
def slots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to execute in turn: every core that the test makes takes this one."""
    monkeypatch.setenv("BLIP_SPACE_SLOTS", str(int(request.param)))
    return bool(request.param)


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


class SteppedCore:
    """A core that a test steps by hand, and what came of its requests."""

    def __init__(self, model: FakeModel, **limits: Any) -> None:
        self.model = model
        self.core = EngineCore(model, EngineConfig(**limits))
        self.texts: dict[int, list[str]] = {}
        self.ended: dict[int, Output] = {}
        self.now = 0.0

    def ask(
        self, text: str, *, digest: str = "a", turns: bool = False, background: bool = False, **options: Any
    ) -> int:
        """Add a request; its id."""
        chosen = GenerationOptions(**options)
        prompt, pixels = prompt_of(self.model, text, digest), (self.model.pixels(None, chosen),)
        return self.core.add(PreparedRequest(self.model.spec, prompt, pixels, chosen, turns, background))

    @property
    def batch_class(self) -> Any:
        """How the rows are laid out."""
        return type(self.core._runner._batch)

    def step(self, count: int = 1, *, admit: bool = True) -> None:
        """So many steps, one second apart."""
        for _ in range(count):
            self.now += 1.0
            for output in self.core.step(self.now, admit=admit):
                self.texts.setdefault(output.id, []).append(output.text)
                if output.finished:
                    assert output.id not in self.ended
                    self.ended[output.id] = output

    def finish(self) -> None:
        """Step until nothing is left; a core that never gets there fails the test."""
        for _ in range(2_000):
            if not self.core.has_work:
                return
            self.step()
        raise AssertionError("the core does not come to an end")

    def text(self, number: int) -> str:
        """The whole answer; raises what there is in its place."""
        if error := self.ended[number].error:
            raise error
        return self.ended[number].text


@pytest.fixture
def run(model: FakeModel, slots: bool) -> Callable[..., SteppedCore]:
    """A core on the fake model, with such limits."""
    return lambda **limits: SteppedCore(model, **{"slots": slots, **limits})
