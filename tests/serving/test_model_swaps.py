"""Laws of swapping models: nothing is swapped during an answer, and users come before background requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from blip_space.errors import BusyError, ModelError
from blip_space.serving import protocol
from blip_space.serving.response import ResponseStream
from blip_space.serving.threaded import ThreadedEngine
from tests.engine.fake_model import spec
from tests.serving.conftest import Build
from tests.serving.example_requests import BEST, FOR_ONE, FOR_TWO, ONE, TWO, answer, ask
from tests.serving.fakes import GIGABYTE, FakeLoader, wait_until


def test_the_status_during_a_swap_is_consistent(build: Build, loading: FakeLoader) -> None:
    """It was read from the model that was just closed, and the page showed an internal error."""
    small = spec("one", parameters=100_000_000)
    loading.memory_bytes = 500_000_000
    engine = build(small, spec("two", parameters=100_000_000))
    wait_until(lambda: engine.status().status == "ready")
    ended = threading.Event()
    errors: list[Exception] = []

    def poll() -> None:
        while not ended.is_set():
            try:
                assert len(engine.status().loaded) <= 1
                engine.fitting_precisions(small)
            except Exception as error:
                errors.append(error)

    polling = threading.Thread(target=poll)
    polling.start()
    for number in range(20):
        assert list(engine.submit(ask(model=("two", "one")[number % 2])))
    ended.set()
    polling.join()
    assert errors == []


def test_the_status_names_the_model_that_is_loading(build: Build, loading: FakeLoader) -> None:
    engine = build(ONE, TWO)
    answer(engine, "one")
    loading.may_finish.clear()
    response = engine.submit(ask(model="two"))
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
    answer(engine, "one", "two")  # loading a model sets its number
    for number, name in enumerate(("one", "two"), start=1):
        loading.last(name).threads = number
    answer(engine, "one", "two", "two")
    assert used == [1, 2]
    with pytest.raises(ModelError):
        list(engine.submit(ask(model="three")))
    answer(engine, "two")
    assert used == [1, 2, 2]


@pytest.mark.parametrize("cancelled", [True, False])
def test_no_model_is_swapped_during_a_beam_search(build: Build, loading: FakeLoader, cancelled: bool) -> None:
    """Two models were in memory at once, and the search went on with the closed one."""
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(2)
    engine = build(ONE, TWO)
    search = engine.submit(ask("one two three four five six seven eight", model="one", options=BEST))
    wait_until(lambda: engine.status().running == 1)
    other = engine.submit(ask(model="two"))
    if cancelled:
        search.cancel()
    loading.gate.release(10_000)
    assert list(other)[-1].endswith("English:")
    if not cancelled:
        assert list(search)[-1].startswith("one two three")
    assert loading.events == ["load one", "close one", "load two"]


def test_later_requests_wait_for_a_model_that_is_to_be_loaded(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_TWO, threading.Semaphore(1)
    engine = build(ONE, TWO, max_batch_size=1)
    running, before = engine.submit(ask("Who runs?", model="one")), engine.submit(ask("Who was before?", model="one"))
    wait_until(lambda: engine.status().running == 1)
    other, after = engine.submit(ask("Who waits?", model="two")), engine.submit(ask("Who came after?", model="one"))
    assert [response.queue_position() for response in (before, other, after)] == [0, 1, 2]
    loading.gate.release(8 + 9 - 1)  # the words and stop tokens of the first two, less the one above
    for response in (running, before):
        assert list(response)
    wait_until(lambda: loading.events == ["load one", "load two"])
    assert after.tokens == 0
    loading.gate.release(1_000)
    for response in (other, after):
        assert list(response)[-1].startswith("Question: Who")


def submit_batch(engine: ThreadedEngine, model: str, count: int) -> Iterator[ResponseStream]:
    for _ in range(count):
        yield engine.submit(ask(model=model, background=True))


def test_background_requests_wait_again_when_their_model_is_unloaded_for_a_user(
    build: Build, loading: FakeLoader
) -> None:
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(1)
    engine = build(ONE, TWO, max_batch_size=1)
    batch = list(submit_batch(engine, "one", 3))
    wait_until(lambda: engine.status().running == 1)
    user = engine.submit(ask(model="two"))
    loading.gate.release(10_000)
    assert list(user)[-1].endswith("English:")
    for response in batch:
        assert list(response)[-1].endswith("English:")
    assert loading.events == ["load one", "close one", "load two", "close two", "load one"]


def test_background_requests_keep_their_order_across_a_swap(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(1)
    engine = build(ONE, TWO, max_batch_size=1)
    batch = [engine.submit(ask(f"Who is {number}?", model="one", background=True)) for number in "123"]
    wait_until(lambda: engine.status().running == 1)
    user = engine.submit(ask(model="two"))
    batch.append(engine.submit(ask("Who is 4?", model="one", background=True)))
    loading.gate.release(10_000)
    for response in (user, *batch):
        assert list(response)[-1].endswith("English:")
    assert [word for word in loading.last("one").generated_words if word in ("2?", "3?", "4?")] == ["2?", "3?", "4?"]


def test_background_requests_load_no_model_while_a_user_waits_for_a_blocked_one(
    build: Build, loading: FakeLoader
) -> None:
    loading.memory_bytes, loading.load_seconds = int(0.8 * GIGABYTE), 60.0
    engine = build(ONE, TWO, spec("small", parameters=1), start=False)  # which fits beside each of the others

    def go_on() -> None:
        while engine._driver.iterate():
            pass

    engine._driver.load(ONE)
    engine.submit(ask(model="two"))
    go_on()
    user, batch = engine.submit(ask(model="one")), engine.submit(ask(model="small", background=True))
    go_on()
    assert loading.events == ["load one", "close one", "load two"]
    loading.now += 61.0
    go_on()
    assert loading.events[3:] == ["close two", "load one", "load small"]
    for response in (user, batch):
        assert list(response)[-1].endswith("English:")


def test_background_requests_load_no_model_while_users_wait(build: Build, loading: FakeLoader) -> None:
    loading.memory_bytes, loading.gate = FOR_ONE, threading.Semaphore(1)
    engine = build(ONE, TWO, max_batch_size=1)
    users = [engine.submit(ask(model="one")), engine.submit(ask(model="one"))]
    wait_until(lambda: engine.status().running == 1)
    batch = list(submit_batch(engine, "two", 2))
    users.append(engine.submit(ask(model="one")))
    loading.gate.release(3 * 9 - 2)
    for response in users[:2]:
        assert list(response)
    assert loading.events == ["load one"]
    loading.gate.release(1_000)
    for response in (users[2], *batch):
        assert list(response)
    assert loading.events == ["load one", "close one", "load two"]


def test_a_model_stays_at_least_as_long_as_the_swap_took(build: Build, loading: FakeLoader) -> None:
    """A user who requested two models in turn kept the server loading, and no request was answered."""
    loading.memory_bytes, loading.load_seconds = FOR_ONE, 60.0
    engine = build(ONE, TWO)
    answer(engine, "one", "two")
    assert loading.now == 120.0
    waits = engine.submit(ask(model="one"))
    answer(engine, "two", "two", "two")  # requests for the loaded model are answered
    assert loading.events[-1] == "load two"
    assert waits.queue_position() == 0
    loading.now += 61.0
    assert list(waits)
    assert loading.events[-2:] == ["close two", "load one"]


def test_a_request_that_times_out_before_its_model_may_load_is_dropped(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.memory_bytes, loading.load_seconds = FOR_ONE, 60.0
    engine = build(ONE, TWO)
    answer(engine, "one", "two")
    monkeypatch.setattr(protocol, "seconds_to_answer", lambda *_: 0.05)
    with pytest.raises(BusyError, match="took too long"):
        list(engine.submit(ask(model="one")))
    monkeypatch.undo()
    loading.now += 1_000.0
    wait_until(lambda: not list(engine._driver.queue))
    answer(engine, "two")
    assert loading.events == ["load one", "close one", "load two"]
