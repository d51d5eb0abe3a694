"""Laws of preparations: each is loaded once, and none waits for another model's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.serving.preparations import Preparations
from tests.engine.fake_model import FakePreparation, spec

ONE, TWO = spec("one"), spec("two")


class CountingDict(dict[str, Any]):
    """Counts its look-ups."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups = threading.Semaphore(0)

    def get(self, *arguments: Any) -> Any:
        self.lookups.release()
        return super().get(*arguments)


def test_two_callers_at_once_load_a_preparation_once() -> None:
    loads, results, loaded = list[str](), list[object](), CountingDict()

    def load(model_spec: ModelSpec) -> FakePreparation:
        loads.append(model_spec.name)
        for _ in range(2):
            loaded.lookups.acquire(timeout=10)
        return FakePreparation(model_spec)

    preparations = Preparations([ONE], load)
    preparations._loaded = loaded
    callers = [threading.Thread(target=lambda: results.append(preparations.get(ONE))) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert loads == ["one"]
    assert results[0] is results[1] is preparations.get(ONE)


def test_a_slow_load_does_not_block_another_model() -> None:
    def load(model_spec: ModelSpec) -> FakePreparation:
        if model_spec is ONE:
            caller = threading.Thread(target=lambda: results.append(preparations.get(TWO)), daemon=True)
            caller.start()
            caller.join(timeout=10)
        return FakePreparation(model_spec)

    results, preparations = list[object](), Preparations([ONE, TWO], load)
    preparations.get(ONE)
    assert results == [preparations.get(TWO)]


def test_a_failed_load_is_retried() -> None:
    errors = [ModelError("It has no tokenizer.")]

    def load(model_spec: ModelSpec) -> FakePreparation:
        if errors:
            raise errors.pop()
        return FakePreparation(model_spec)

    preparations = Preparations([ONE], load)
    with pytest.raises(ModelError, match="no tokenizer"):
        preparations.get(ONE)
    assert preparations.get(ONE).spec is ONE
