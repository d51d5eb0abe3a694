"""A server's collector leaves out the objects of libraries, until a model is unloaded."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from blip_space.models.interface import VisionLanguageModel
from blip_space.serving.frozen_objects import freeze_when_loaded
from tests.apps.fake_engine import FakeEngine
from tests.serving.fakes import wait_until


@pytest.fixture(autouse=True)
def _unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_objects_are_frozen_once_the_model_is_loaded() -> None:
    engine = FakeEngine()
    engine.set_status(status="loading", loaded=())
    freeze_when_loaded(engine)
    assert gc.get_freeze_count() == 0
    engine.set_status(status="ready")
    wait_until(lambda: gc.get_freeze_count() > 0)


def test_the_weights_of_a_frozen_model_are_freed_when_it_is_unloaded() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    class Holder:
        close: Any = VisionLanguageModel.close

        def __init__(self) -> None:
            self._hf_model, self.decoder = Cycle(), None

    holder = Holder()
    weights = weakref.ref(holder._hf_model)
    gc.freeze()
    holder.close()
    assert weights() is None
