"""Laws of the models in memory: all that fit stay, and the least recently used is unloaded for another."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import EngineConfig
from blip_space.errors import ModelError
from blip_space.serving import model_manager
from blip_space.serving.model_manager import ModelManager
from tests.engine.fake_model import spec
from tests.serving.conftest import Build
from tests.serving.example_requests import FOR_ONE, FOR_TWO, HUGE, ONE, THREE, TWO, answer, ask
from tests.serving.fakes import GIGABYTE, FakeLoader, wait_until


def test_models_that_fit_together_are_never_swapped(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes = FOR_TWO
    engine = build(ONE, TWO)
    answer(engine, "one", "two", "one", "two", "one")
    assert loading.events == ["load one", "load two"]
    assert engine.status().model == "one"
    assert engine.status().loaded == ("two", "one")


def test_loaded_models_share_the_memory_for_keys_and_values(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each took half of what was free when it was loaded, and kept that when others came."""
    monkeypatch.setattr("blip_space.loading.memory.free_bytes", lambda _: 198)  # a fake's position takes one byte
    engine = build(ONE, TWO, THREE)
    answer(engine, "one")
    assert [model.core.row_limit for model in engine._models.loaded] == [99]
    answer(engine, "two", "three")
    assert [model.core.row_limit for model in engine._models.loaded] == [33, 33, 33]


def test_every_model_stays_where_free_memory_is_unknown(build: Build, loading: FakeLoader) -> None:
    answer(build(ONE, TWO, THREE), "one", "two", "three", "one")
    assert loading.events == ["load one", "load two", "load three"]


def test_the_least_recently_used_model_is_unloaded(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes = FOR_TWO
    engine = build(ONE, TWO, THREE)
    answer(engine, "one", "two", "one", "three", "one")
    assert loading.events == ["load one", "load two", "close two", "load three"]
    assert engine.status().loaded == ("three", "one")


def call_interrupted(function: Any, index: int, act: Callable[[], None], *args: Any) -> bool:
    """Call a function, and call `act` before its bytecode `index`, as another thread might; False if it has fewer."""
    left, previous = index, sys.gettrace()

    def follow(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                act()
        return follow

    code = function.__code__
    sys.settrace(lambda frame, event, arg: follow(frame, event, arg) if frame.f_code is code else None)
    try:
        function(*args)
    finally:
        sys.settrace(previous)
    return left < 0


def test_a_model_that_is_unloaded_while_another_thread_uses_it_stays_unloaded(loading: FakeLoader) -> None:
    """The closed model was among the loaded ones again, and every request for it failed."""
    for index in range(1_000):
        models = ModelManager("auto", EngineConfig(), load=loading, find_memory=loading.find_memory)
        for model_spec in (ONE, TWO):
            models.load(model_spec, lambda _: None)
        close = partial(models._close, models.loaded[0], lambda _: None)
        if not call_interrupted(ModelManager.core, index, close, models, "one"):
            break
        assert [model.name for model in models.loaded] == ["two"]
    assert index > 10


def test_as_many_models_as_necessary_are_unloaded_and_their_counts_stay(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes = int(1.7 * GIGABYTE)
    engine = build(ONE, TWO, HUGE)
    answer(engine, "one", "one")
    core = engine._models.loaded[0].core
    core.restarts, core._runner.prefixes.hits = 2, 3
    for others in (["two"], ["huge"]):
        answer(engine, *others)
        metrics = engine.status().metrics
        assert (metrics.prefix_hits, metrics.turn_hits, metrics.restarts) == (1, 3, 2)
    assert loading.events == ["load one", "load two", "close one", "close two", "load huge"]


def test_a_model_beside_others_needs_more_memory_than_its_weights(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes = int(0.85 * GIGABYTE)
    answer(build(ONE, TWO), "one", "two")
    assert loading.events == ["load one", "close one", "load two"]


def test_keys_and_values_of_other_models_count_as_memory_that_unloading_frees(
    build: Build, loading: FakeLoader
) -> None:
    """A model that fits well was refused while others were running."""
    loading.memory_bytes = FOR_ONE
    engine = build(ONE, TWO)
    answer(engine, "one")
    loading.memory_bytes = int(0.39 * GIGABYTE)
    assert engine._models.seconds_until(TWO) == 0


def test_a_model_that_does_not_fit_even_alone_is_refused_and_nothing_is_closed(
    build: Build, loading: FakeLoader
) -> None:
    loading.memory_bytes = FOR_TWO
    engine = build(ONE, HUGE)
    answer(engine, "one")
    with pytest.raises(ModelError, match="huge does not fit into this machine's memory"):
        list(engine.submit(ask(model="huge")))
    with pytest.raises(ModelError, match="huge does not fit"):
        engine.submit(ask(model="huge"))
    assert loading.events == ["load one"]
    assert engine.status().status == "ready"


def test_unloading_a_model_frees_its_caches(build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that fits alone was refused for minutes, for the caches of the one that it would have replaced."""
    loading.memory_bytes = int(HUGE.memory_gb["fp32"] * GIGABYTE)
    find_memory = loading.find_memory

    def find_what_is_left() -> tuple[Any, int | None]:
        device, free = find_memory()
        assert free is not None
        return device, free - sum(model.core.cached_bytes for model in engine._models.loaded)

    monkeypatch.setattr(loading, "find_memory", find_what_is_left)
    engine = build(ONE, HUGE, start=False)
    engine.start()
    answer(engine, "one", "huge")
    assert loading.events == ["load one", "close one", "load huge"]


def test_a_model_that_can_never_fit_is_refused_while_others_run(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(1)
    engine = build(ONE, HUGE)
    running = engine.submit(ask(model="one"))
    wait_until(lambda: engine.status().running == 1)
    refused = engine.submit(ask(model="huge"))
    loading.gate.release()
    with pytest.raises(ModelError, match="does not fit"):
        list(refused)
    assert not running.done


def test_fitting_precisions_count_the_memory_of_loaded_models_as_free(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: list[int] = []

    def fitting(_: ModelSpec, *, freed: int, **_device: str) -> tuple[str, ...]:
        arguments.append(freed)
        return ("fp32",)

    monkeypatch.setattr("blip_space.loading.memory.fitting_precisions", fitting)
    engine = build(ONE, TWO, start=False)
    assert engine.fitting_precisions(ONE) is None
    engine.start()
    answer(engine, "one", "two")
    assert engine.fitting_precisions(ONE) == ("fp32",)
    assert arguments == [int(0.8 * GIGABYTE)]


def test_a_load_imports_the_libraries_under_the_lock_before_it_looks_for_memory(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first question during the start failed: its thread saw a partially imported transformers."""
    events, find_memory = list[str](), loading.find_memory

    def find_memory_after() -> Any:
        events.append("memory")
        return find_memory()

    monkeypatch.setattr(model_manager, "import_model_libraries", lambda: events.append("import"))
    monkeypatch.setattr(loading, "find_memory", find_memory_after)
    build(start=False)._driver.load(spec("fake"))
    assert events == ["import", "memory"]
