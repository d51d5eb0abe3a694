"""Laws of loaded models: all that fit stay, the least recently used leaves, nothing is exchanged under an answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import BusyError, ModelError
from blip_space.serving.model_manager import ModelManager
from blip_space.serving.response import ResponseStream
from blip_space.serving.threaded import ThreadedEngine
from tests.engine.fake_model import spec
from tests.serving.conftest import Build
from tests.serving.fakes import GIGABYTE, FakeLoader, wait_until
from tests.serving.test_threaded import BEST, IMAGE

ONE, TWO, THREE = (spec(name, parameters=100_000_000) for name in ("one", "two", "three"))
"""Each takes 0.4 GB."""

HUGE = spec("huge", parameters=400_000_000)
FOR_ONE, FOR_TWO = int(0.5 * GIGABYTE), int(0.95 * GIGABYTE)


def ask(model: str, words: str = "What is it?", **changes: Any) -> Request:
    return Request(IMAGE, words, model=model, **changes)


def answer(engine: ThreadedEngine, *models: str) -> None:
    """Ask one after another."""
    for model in models:
        assert list(engine.submit(ask(model)))[-1].endswith("English:")


def test_models_that_fit_beside_each_other_are_never_exchanged(build: Build, loading: FakeLoader) -> None:
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


def test_where_nobody_knows_what_is_free_every_model_stays(build: Build, loading: FakeLoader) -> None:
    answer(build(ONE, TWO, THREE), "one", "two", "three", "one")
    assert loading.events == ["load one", "load two", "load three"]


def test_the_least_recently_used_model_leaves(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes = FOR_TWO
    engine = build(ONE, TWO, THREE)
    answer(engine, "one", "two", "one", "three", "one")
    assert loading.events == ["load one", "load two", "close two", "load three"]
    assert engine.status().loaded == ("three", "one")


def interrupted(function: Any, moment: int, act: Callable[[], None], *arguments: Any) -> bool:
    """Call a method, and act before its instruction of that number, as another thread may; False where it has fewer."""
    left, before = moment, sys.gettrace()

    def follow(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                act()
        return follow

    code = function.__code__
    sys.settrace(lambda frame, event, given: follow(frame, event, given) if frame.f_code is code else None)
    try:
        function(*arguments)
    finally:
        sys.settrace(before)
    return left < 0


def test_a_model_that_leaves_while_another_thread_asks_for_it_has_left(loading: FakeLoader) -> None:
    """It was among the loaded ones again, closed, and every request for it failed."""
    for moment in range(1_000):
        models = ModelManager("auto", EngineConfig(), load=loading, find_memory=loading.find_memory)
        for each in (ONE, TWO):
            models.load(each, lambda _: None)
        leave = partial(models._close, models.loaded[0], lambda _: None)
        if not interrupted(ModelManager.core, moment, leave, models, "one"):
            break
        assert [model.name for model in models.loaded] == ["two"]
    assert moment > 10


def test_as_many_models_leave_as_have_to_and_their_numbers_stay(build: Build, loading: FakeLoader) -> None:
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


def test_beside_others_a_model_finds_more_than_its_weights_take(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes = int(0.85 * GIGABYTE)
    answer(build(ONE, TWO), "one", "two")
    assert loading.events == ["load one", "close one", "load two"]


def test_what_keys_and_values_of_others_take_counts_as_free_without_them(build: Build, loading: FakeLoader) -> None:
    """A model that fits well was refused because others were being answered."""
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
        list(engine.submit(ask("huge")))
    with pytest.raises(ModelError, match="huge does not fit"):
        engine.submit(ask("huge"))
    assert loading.events == ["load one"]
    assert engine.status().status == "ready"


def test_what_a_model_keeps_of_answers_is_free_once_it_has_left(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that fits alone was refused for minutes, for the caches of the one that would have left for it."""
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


def test_an_impossible_model_is_refused_while_others_are_answered(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(1)
    engine = build(ONE, HUGE)
    running = engine.submit(ask("one"))
    wait_until(lambda: engine.status().running == 1)
    refused = engine.submit(ask("huge"))
    loading.gate.release()
    with pytest.raises(ModelError, match="does not fit"):
        list(refused)
    assert not running.done


def test_a_model_that_does_not_load_fails_everyone_who_waits_for_it_at_once(build: Build, loading: FakeLoader) -> None:
    """For five who waited the first model was loaded five times, minutes each."""
    loading.memory_bytes, loading.failing = FOR_ONE, {"two"}
    loading.may_finish.clear()
    engine = build(ONE, TWO)
    waiting = [engine.submit(ask("two")) for _ in range(5)]
    loading.may_finish.set()
    for response in waiting:
        with pytest.raises(ModelError, match="two has no weights"):
            list(response)
    answer(engine, "one")
    assert loading.events == ["load one", "close one", "load two", "load one"]
    assert engine.status().status == "ready"


def test_the_model_that_left_in_vain_is_loaded_back_before_anybody_asks(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.failing = FOR_ONE, {"two"}
    engine = build(ONE, TWO)
    with pytest.raises(ModelError):
        list(engine.submit(ask("two")))
    assert loading.events == ["load one", "close one", "load two", "load one"]
    assert engine.status().loaded == ("one",)


def test_of_those_that_left_in_vain_the_last_used_is_loaded_back(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.failing = int(1.7 * GIGABYTE), {"huge"}
    engine = build(ONE, TWO, HUGE)
    answer(engine, "two", "one")
    with pytest.raises(ModelError):
        list(engine.submit(ask("huge")))
    wait_until(lambda: engine.status().status == "ready")
    assert loading.events == ["load one", "load two", "close two", "close one", "load huge", "load one"]


def test_nothing_is_loaded_back_while_another_model_is_there(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.failing = FOR_TWO, {"three"}
    engine = build(ONE, TWO, THREE)
    answer(engine, "one", "two")
    with pytest.raises(ModelError):
        list(engine.submit(ask("three")))
    answer(engine, "two")
    assert loading.events == ["load one", "load two", "close one", "load three"]


def test_a_model_that_does_not_load_fails_nobody_who_waits_for_another(build: Build, loading: FakeLoader) -> None:
    loading.failing = {"two"}
    engine = build(ONE, TWO, THREE, start=False)
    fails, waits = engine.submit(ask("two")), engine.submit(ask("three"))
    engine.start()
    with pytest.raises(ModelError, match="two has no weights"):
        list(fails)
    assert list(waits)[-1].endswith("English:")


def test_while_another_model_loads_the_status_says_which(build: Build, loading: FakeLoader) -> None:
    engine = build(ONE, TWO)
    answer(engine, "one")
    loading.may_finish.clear()
    response = engine.submit(ask("two"))
    wait_until(lambda: engine._models.loading == "two")
    status = engine.status()
    assert (status.status, status.model, status.loaded) == ("loading", "two", ("one",))
    loading.may_finish.set()
    assert list(response)
    assert engine.status().status == "ready"


def test_each_model_computes_with_its_own_number_of_threads(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = list[int]()
    monkeypatch.setattr("blip_space.models.threads.use_threads", used.append)
    loading.failing = {"three"}
    engine = build("one", "two", "three")
    answer(engine, "one", "two")  # whoever loads a model sets its number
    for number, name in enumerate(("one", "two"), start=1):
        loading.last(name).threads = number
    answer(engine, "one", "two", "two")
    assert used == [1, 2]
    with pytest.raises(ModelError):
        list(engine.submit(ask("three")))
    answer(engine, "two")
    assert used == [1, 2, 2]


def test_a_failure_is_remembered_for_a_while_and_then_tried_again(build: Build, loading: FakeLoader) -> None:
    """It was remembered until a restart, though the network was away for a minute only."""
    loading.failing = {"two"}
    engine = build("one", "two", failure_seconds=180.0)
    with pytest.raises(ModelError, match="no weights"):
        list(engine.submit(ask("two")))
    loading.failing = set()
    loading.now = 179.0
    with pytest.raises(ModelError, match="no weights"):
        engine.submit(ask("two"))
    loading.now = 181.0
    answer(engine, "two")


def test_the_default_model_too_is_tried_again(build: Build, loading: FakeLoader) -> None:
    loading.failing = {"fake"}
    loading.may_finish.clear()
    engine = build()
    response = engine.submit(ask(""))
    loading.may_finish.set()
    with pytest.raises(ModelError, match="no weights"):
        list(response)
    assert engine.status().status == "failed"
    loading.failing, loading.now = set(), 1_000.0
    answer(engine, "")
    assert (engine.status().status, engine.status().error) == ("ready", "")


@pytest.mark.parametrize("leaves", [True, False])
def test_no_model_is_exchanged_under_a_beam_search_that_is_cancelled(
    build: Build, loading: FakeLoader, leaves: bool
) -> None:
    """Two models were in memory at once, and the search went on with the closed one."""
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(2)
    engine = build(ONE, TWO)
    search = engine.submit(ask("one", "one two three four five six seven eight", options=BEST))
    wait_until(lambda: engine.status().running == 1)
    other = engine.submit(ask("two"))
    if leaves:
        search.cancel()
    loading.gate.release(10_000)
    assert list(other)[-1].endswith("English:")
    if not leaves:
        assert list(search)[-1].startswith("one two three")
    assert loading.events == ["load one", "close one", "load two"]


def test_requests_that_come_after_one_for_another_model_wait_for_it(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_TWO, threading.Semaphore(1)
    engine = build(ONE, TWO, max_batch_size=1)
    running, before = engine.submit(ask("one", "Who runs?")), engine.submit(ask("one", "Who was before?"))
    wait_until(lambda: engine.status().running == 1)
    other, after = engine.submit(ask("two", "Who waits?")), engine.submit(ask("one", "Who came after?"))
    assert [response.queue_position() for response in (before, other, after)] == [0, 1, 2]
    loading.gate.release(8 + 9 - 1)  # the words and the stop of the first two; one was there
    for response in (running, before):
        assert list(response)
    wait_until(lambda: loading.events == ["load one", "load two"])
    assert after.tokens == 0
    loading.gate.release(1_000)
    for response in (other, after):
        assert list(response)[-1].startswith("Question: Who")


def waiting_batch(engine: ThreadedEngine, model: str, count: int) -> Iterator[ResponseStream]:
    for _ in range(count):
        yield engine.submit(ask(model, background=True))


def test_the_background_waits_again_when_its_model_leaves_for_a_user(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(1)
    engine = build(ONE, TWO, max_batch_size=1)
    batch = list(waiting_batch(engine, "one", 3))
    wait_until(lambda: engine.status().running == 1)
    user = engine.submit(ask("two"))
    loading.gate.release(10_000)
    assert list(user)[-1].endswith("English:")
    for response in batch:
        assert list(response)[-1].endswith("English:")
    assert loading.events == ["load one", "close one", "load two", "close two", "load one"]


def test_the_background_goes_on_in_its_order_after_its_model_left(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(1)
    engine = build(ONE, TWO, max_batch_size=1)
    batch = [engine.submit(ask("one", f"Who is {number}?", background=True)) for number in "123"]
    wait_until(lambda: engine.status().running == 1)
    user = engine.submit(ask("two"))
    batch.append(engine.submit(ask("one", "Who is 4?", background=True)))
    loading.gate.release(10_000)
    for response in (user, *batch):
        assert list(response)[-1].endswith("English:")
    assert [word for word in loading.last("one").generated_words if word in ("2?", "3?", "4?")] == ["2?", "3?", "4?"]


def test_the_background_loads_nothing_while_a_user_waits_for_a_model_that_may_not_come_yet(
    build: Build, loading: FakeLoader
) -> None:
    loading.memory_bytes, loading.load_seconds = int(0.8 * GIGABYTE), 60.0
    engine = build(ONE, TWO, spec("small", parameters=1), start=False)  # for which there is room beside any of them

    def go_on() -> None:
        while engine._driver.iterate():
            pass

    engine._driver.load(ONE)
    engine.submit(ask("two"))
    go_on()
    user, batch = engine.submit(ask("one")), engine.submit(ask("small", background=True))
    go_on()
    assert loading.events == ["load one", "close one", "load two"]
    loading.now += 61.0
    go_on()
    assert loading.events[3:] == ["close two", "load one", "load small"]
    for response in (user, batch):
        assert list(response)[-1].endswith("English:")


def test_the_background_loads_no_model_while_users_are_answered(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(1)
    engine = build(ONE, TWO, max_batch_size=1)
    users = [engine.submit(ask("one")), engine.submit(ask("one"))]
    wait_until(lambda: engine.status().running == 1)
    batch = list(waiting_batch(engine, "two", 2))
    users.append(engine.submit(ask("one")))
    loading.gate.release(3 * 9 - 2)
    for response in users[:2]:
        assert list(response)
    assert loading.events == ["load one"]
    loading.gate.release(1_000)
    for response in (users[2], *batch):
        assert list(response)
    assert loading.events == ["load one", "close one", "load two"]


def test_a_model_that_made_another_leave_stays_as_long_as_its_load_took(build: Build, loading: FakeLoader) -> None:
    """A user who asks for two models in turn could keep the server loading, and nobody was answered."""
    loading.memory_bytes, loading.load_seconds = FOR_ONE, 60.0
    engine = build(ONE, TWO)
    answer(engine, "one", "two")
    assert loading.now == 120.0
    waits = engine.submit(ask("one"))
    answer(engine, "two", "two", "two")  # all others go on
    assert loading.events[-1] == "load two"
    assert waits.queue_position() == 0
    loading.now += 61.0
    assert list(waits)
    assert loading.events[-2:] == ["close two", "load one"]


def test_a_user_who_gives_up_while_a_model_may_not_leave_is_forgotten(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.load_seconds = FOR_ONE, 60.0
    engine = build(ONE, TWO, timeout_seconds=0.3)
    answer(engine, "one", "two")
    with pytest.raises(BusyError, match="took too long"):
        list(engine.submit(ask("one")))
    loading.now += 1_000.0
    wait_until(lambda: not list(engine._driver.queue))
    answer(engine, "two")
    assert loading.events == ["load one", "close one", "load two"]


def test_what_a_machine_cannot_be_asked_ends_nobody_elses_answer(build: Build, loading: FakeLoader) -> None:
    def broken() -> Any:
        if loading.models:
            raise RuntimeError("the driver of the GPU is gone")
        return find_memory()

    find_memory = loading.find_memory
    loading.find_memory = broken  # type: ignore[method-assign]
    engine = build(ONE, TWO)
    answer(engine, "one")
    with pytest.raises(ModelError, match="two did not load, for a reason that is in the server's log"):
        list(engine.submit(ask("two")))
    answer(engine, "one")


def test_which_precisions_fit_is_asked_with_all_models_gone(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def fitting(_: ModelSpec, *, freed: int) -> tuple[str, ...]:
        seen.append(freed)
        return ("fp32",)

    monkeypatch.setattr("blip_space.loading.memory.fitting_precisions", fitting)
    engine = build(ONE, TWO, start=False)
    assert engine.fitting_precisions(ONE) is None
    engine.start()
    answer(engine, "one", "two")
    assert engine.fitting_precisions(ONE) == ("fp32",)
    assert seen == [int(0.8 * GIGABYTE)]
