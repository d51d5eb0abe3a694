"""A server's collector leaves out the objects of libraries, until a model is unloaded; and freed memory is returned."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from blip_space.models.interface import VisionLanguageModel
from blip_space.serving import server_memory
from blip_space.serving.machine import used_bytes
from blip_space.serving.server_memory import keep_small
from tests.apps.fake_engine import FakeEngine
from tests.serving.fakes import wait_until


@pytest.fixture(autouse=True)
def _unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_objects_are_frozen_once_the_model_is_loaded() -> None:
    engine = FakeEngine()
    engine.set_status(status="loading", loaded=())
    keep_small(engine)
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


@pytest.mark.skipif(server_memory._find_trim() is None, reason="returns memory with glibc only")
def test_memory_that_was_freed_between_blocks_in_use_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_memory, "RETURN_SECONDS", 0.05)
    blocks = [bytes(50_000) for _ in range(4_000)]
    before = used_bytes("cpu")["memory_bytes"]
    in_use = blocks[::20]
    blocks.clear()
    keep_small(FakeEngine())
    wait_until(lambda: used_bytes("cpu")["memory_bytes"] < before - 120_000_000)
    assert in_use
