"""Laws of preparations: each is loaded once, and none waits for another's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.serving.preparations import Preparations
from tests.engine.fake_model import FakePreparation, spec

ONE, TWO = spec("one"), spec("two")


class Noticing(dict[str, Any]):
    """Says when somebody looked for what is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = threading.Semaphore(0)

    def get(self, *arguments: Any) -> Any:
        self.looked.release()
        return super().get(*arguments)


def test_two_who_come_at_once_load_it_once() -> None:
    loads, found, loaded = list[str](), list[object](), Noticing()

    def load(one: ModelSpec) -> FakePreparation:
        loads.append(one.name)
        for _ in range(2):
            loaded.looked.acquire(timeout=10)
        return FakePreparation(one)

    preparations = Preparations([ONE], load)
    preparations._loaded = loaded
    users = [threading.Thread(target=lambda: found.append(preparations.get(ONE))) for _ in range(2)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert loads == ["one"]
    assert found[0] is found[1] is preparations.get(ONE)


def test_one_that_takes_long_holds_up_no_other() -> None:
    def load(one: ModelSpec) -> FakePreparation:
        if one is ONE:
            other = threading.Thread(target=lambda: found.append(preparations.get(TWO)), daemon=True)
            other.start()
            other.join(timeout=10)
        return FakePreparation(one)

    found, preparations = list[object](), Preparations([ONE, TWO], load)
    preparations.get(ONE)
    assert found == [preparations.get(TWO)]


def test_what_could_not_be_loaded_is_tried_again() -> None:
    faults = [ModelError("It has no tokenizer.")]

    def load(one: ModelSpec) -> FakePreparation:
        if faults:
            raise faults.pop()
        return FakePreparation(one)

    preparations = Preparations([ONE], load)
    with pytest.raises(ModelError, match="no tokenizer"):
        preparations.get(ONE)
    assert preparations.get(ONE).spec is ONE
