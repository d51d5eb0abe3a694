"""Laws of models that do not load: which requests fail, which model is loaded instead, and when it is retried."""

from __future__ import annotations

from typing import Any

import pytest

from blip_space.errors import ModelError
from tests.engine.fake_model import spec
from tests.serving.conftest import Build
from tests.serving.example_requests import FOR_ONE, FOR_TWO, HUGE, ONE, THREE, TWO, answer, ask
from tests.serving.fakes import GIGABYTE, FakeLoader, wait_until


def test_a_failed_first_load_is_reported_and_the_engine_stays_up(build: Build, loading: FakeLoader) -> None:
    loading.failing = {"fake"}
    engine = build()
    wait_until(lambda: engine.status().status == "failed")
    assert "Download it again" in engine.status().error
    with pytest.raises(ModelError, match="has no weights"):
        engine.submit(ask())


def test_a_model_with_a_load_error_is_never_loaded(build: Build, loading: FakeLoader) -> None:
    engine = build(spec(load_error="It has no weights. Copy them.", languages=()))
    wait_until(lambda: engine.status().status == "failed")
    assert engine.status().error == "It has no weights. Copy them."
    loading.now += 1_000_000
    with pytest.raises(ModelError, match="Copy them"):
        engine.submit(ask())
    assert loading.events == []


def test_a_failed_load_fails_all_requests_for_the_model_at_once(build: Build, loading: FakeLoader) -> None:
    """For five waiting requests the first model was loaded again five times, minutes each."""
    loading.memory_bytes, loading.failing = FOR_ONE, {"two"}
    loading.may_finish.clear()
    engine = build(ONE, TWO)
    waiting = [engine.submit(ask(model="two")) for _ in range(5)]
    loading.may_finish.set()
    for response in waiting:
        with pytest.raises(ModelError, match="two has no weights"):
            list(response)
    answer(engine, "one")
    assert loading.events == ["load one", "close one", "load two", "load one"]
    assert engine.status().status == "ready"


def test_after_a_failed_load_the_unloaded_model_is_loaded_again(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.failing = FOR_ONE, {"two"}
    engine = build(ONE, TWO)
    with pytest.raises(ModelError):
        list(engine.submit(ask(model="two")))
    assert loading.events == ["load one", "close one", "load two", "load one"]
    assert engine.status().loaded == ("one",)


def test_after_a_failed_load_only_the_most_recently_used_model_is_loaded_again(
    build: Build, loading: FakeLoader
) -> None:
    loading.memory_bytes, loading.failing = int(1.7 * GIGABYTE), {"huge"}
    engine = build(ONE, TWO, HUGE)
    answer(engine, "two", "one")
    with pytest.raises(ModelError):
        list(engine.submit(ask(model="huge")))
    wait_until(lambda: engine.status().status == "ready")
    assert loading.events == ["load one", "load two", "close two", "close one", "load huge", "load one"]


def test_after_a_failed_load_no_model_is_loaded_again_if_one_stayed(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.failing = FOR_TWO, {"three"}
    engine = build(ONE, TWO, THREE)
    answer(engine, "one", "two")
    with pytest.raises(ModelError):
        list(engine.submit(ask(model="three")))
    answer(engine, "two")
    assert loading.events == ["load one", "load two", "close one", "load three"]


def test_a_failed_load_fails_no_request_for_another_model(build: Build, loading: FakeLoader) -> None:
    loading.failing = {"two"}
    engine = build(ONE, TWO, THREE, start=False)
    fails, waits = engine.submit(ask(model="two")), engine.submit(ask(model="three"))
    engine.start()
    with pytest.raises(ModelError, match="two has no weights"):
        list(fails)
    assert list(waits)[-1].endswith("English:")


def test_a_failed_load_is_retried_after_a_while(build: Build, loading: FakeLoader) -> None:
    """It was remembered until a restart, though the network was down for a minute only."""
    loading.failing = {"two"}
    engine = build("one", "two", failure_seconds=180.0)
    with pytest.raises(ModelError, match="no weights"):
        list(engine.submit(ask(model="two")))
    loading.failing = set()
    loading.now = 179.0
    with pytest.raises(ModelError, match="no weights"):
        engine.submit(ask(model="two"))
    loading.now = 181.0
    answer(engine, "two")


def test_a_failed_load_of_the_default_model_is_retried(build: Build, loading: FakeLoader) -> None:
    loading.failing = {"fake"}
    loading.may_finish.clear()
    engine = build()
    response = engine.submit(ask())
    loading.may_finish.set()
    with pytest.raises(ModelError, match="no weights"):
        list(response)
    assert engine.status().status == "failed"
    loading.failing, loading.now = set(), 1_000.0
    answer(engine, "")
    assert (engine.status().status, engine.status().error) == ("ready", "")


def test_an_error_of_the_memory_query_fails_only_the_request_that_needs_a_load(
    build: Build, loading: FakeLoader
) -> None:
    def broken() -> Any:
        if loading.models:
            raise RuntimeError("the driver of the GPU is gone")
        return find_memory()

    find_memory = loading.find_memory
    loading.find_memory = broken  # type: ignore[method-assign]
    engine = build(ONE, TWO)
    answer(engine, "one")
    with pytest.raises(ModelError, match="two did not load; the server's log says why"):
        list(engine.submit(ask(model="two")))
    answer(engine, "one")
