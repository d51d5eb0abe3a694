"""Laws of recovery: which requests fail after an error or the death of the engine's thread, and which go on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from blip_space.engine.output import ANSWER_FAILED
from blip_space.errors import UserError
from blip_space.options import GenerationOptions
from blip_space.serving import threaded
from blip_space.serving.threaded import ThreadedEngine
from tests.serving.conftest import Build
from tests.serving.example_requests import ANSWER, BEST, ask
from tests.serving.fakes import FakeLoader, wait_until


def break_once(engine: ThreadedEngine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the engine's thread fail at its next call of this method of the driver."""
    method = getattr(engine._driver, name)

    def fail(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(engine._driver, name, method)
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine._driver, name, fail)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_replaced_exactly_once_and_waiting_requests_are_answered(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight users who noticed it at once started six threads on one model."""
    loading.gate = threading.Semaphore(1)
    engine = build(max_batch_size=1, max_waiting=64)
    running, waiting = engine.submit(ask("Who runs?")), engine.submit(ask("Who waits?"))
    wait_until(lambda: engine.status().running == 1)
    first, step = engine._thread, engine._driver._step
    starts = []
    monkeypatch.setattr(engine, "_start_thread", lambda start=engine._start_thread: starts.append(start()))

    def die(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(engine._driver, "_step", step)
        raise SystemExit

    monkeypatch.setattr(engine._driver, "_step", die)
    loading.gate.release()
    assert first is not None
    wait_until(lambda: not first.is_alive())
    start = threading.Barrier(8)

    def visit(_: int) -> None:
        start.wait()
        engine.submit(ask("Who comes?"))
        engine.status()

    users = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert len(starts) == 1
    loading.gate.release(10_000)
    with pytest.raises(UserError, match=ANSWER_FAILED):
        list(running)
    assert list(waiting)[-1] == "Question: Who waits? Short answer in English:"
    assert engine.status().metrics.restarts == 1
    assert loading.events == ["load fake"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("call", ["submit", "status", "none"])
def test_a_dead_thread_is_replaced_by_the_next_call_or_soon_by_itself(
    build: Build, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Without a call its answers waited until the next call."""
    if call != "none":
        monkeypatch.setattr(threaded, "RESTART_SECONDS", 60)
    engine = build()
    assert list(engine.submit(ask()))
    first, iterate = engine._thread, engine._driver.iterate

    def die() -> None:
        monkeypatch.setattr(engine._driver, "iterate", iterate)
        raise SystemExit

    monkeypatch.setattr(engine._driver, "iterate", die)
    lost = engine.submit(ask())
    assert first is not None
    wait_until(lambda: not first.is_alive())
    if call == "submit":
        assert list(engine.submit(ask()))[-1] == ANSWER
    elif call == "status":
        engine.status()
    assert list(lost)[-1] == ANSWER
    assert engine.status().metrics.restarts == 1


def test_an_error_of_the_thread_fails_answers_with_text_only(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.gate = threading.Semaphore(1)
    engine = build(max_batch_size=1)
    running, waiting = engine.submit(ask("Who runs?")), engine.submit(ask("Who waits?"))
    wait_until(lambda: engine.status().running == 1)
    break_once(engine, "_step", monkeypatch)
    loading.gate.release(10_000)
    with pytest.raises(UserError, match=ANSWER_FAILED):
        list(running)
    assert list(waiting)[-1] == "Question: Who waits? Short answer in English:"
    assert engine.status().metrics.restarts == 1


def test_an_error_fails_no_request_that_waits_behind_a_finished_one(build: Build) -> None:
    """The finished request was still counted, so a waiting one was taken for a running one."""
    engine = build(start=False, max_batch_size=2)
    driver = engine._driver
    driver.load(engine.default)
    finished, running, waiting = (engine.submit(ask(f"Who {words}?")) for words in ("is it", "runs so long", "waits"))
    while not finished.done:
        driver.iterate()
    driver.recover()
    while driver.iterate():
        pass
    assert (list(finished)[-1], list(waiting)[-1]) == (
        "Question: Who is it? Short answer in English:",
        "Question: Who waits? Short answer in English:",
    )
    with pytest.raises(UserError, match=ANSWER_FAILED):
        list(running)


def test_an_error_of_the_thread_fails_no_request_behind_a_cancelled_one(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.gate = threading.Semaphore(1)
    engine = build(max_batch_size=1)
    cancelled, waiting = engine.submit(ask("Who leaves?")), engine.submit(ask("Who waits?"))
    wait_until(lambda: engine.status().running == 1)
    cancelled.cancel()
    break_once(engine, "_step", monkeypatch)
    loading.gate.release(10_000)
    assert list(waiting)[-1] == "Question: Who waits? Short answer in English:"


def test_an_answer_that_finishes_while_the_thread_fails_is_generated_again(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in no core any more, and its reader waited until the timeout; later it ended with an error."""
    engine = build(start=False, timeout_seconds=20.0)
    response = engine.submit(ask(options=GenerationOptions(max_new_tokens=1)))
    break_once(engine, "_publish", monkeypatch)
    engine.start()
    assert list(response)[-1] == ANSWER.split()[0]
    wait_until(lambda: not engine._driver.tasks())


@pytest.mark.parametrize("changes", [{"options": BEST}, {"background": True}])
def test_answers_whose_text_no_user_has_read_are_generated_again_one_by_one(
    build: Build, loading: FakeLoader, changes: dict[str, Any]
) -> None:
    """They failed, though nothing of them had been shown."""
    engine = build(start=False)
    driver = engine._driver
    driver.load(engine.default)
    responses = [engine.submit(ask(f"Who is {name}?", **changes)) for name in ("first", "second")]
    for _ in range(3):
        driver.iterate()
    assert engine.status().running == 2
    driver.recover()
    loading.models[0].largest_batch = 0
    while driver.iterate():
        pass
    answers = ["Question: Who is first? Short answer in English:", "Question: Who is second? Short answer in English:"]
    assert [list(response)[-1] for response in responses] == answers
    assert loading.models[0].largest_batch == (BEST.num_beams if changes.get("options") else 1)


def test_an_answer_that_fails_the_thread_twice_ends_with_an_error(build: Build) -> None:
    engine = build(start=False, max_beam_groups=1)
    driver = engine._driver
    driver.load(engine.default)
    failing, waiting = (engine.submit(ask(f"Who {words}?", options=BEST)) for words in ("fails", "waits"))
    for _ in range(2):
        driver.iterate()
        driver.recover()
    while driver.iterate():
        pass
    with pytest.raises(UserError, match=ANSWER_FAILED):
        list(failing)
    assert failing.outcome == "internal_error"
    assert list(waiting)[-1] == "Question: Who waits? Short answer in English:"


def test_a_bug_fails_its_own_request_only(build: Build) -> None:
    engine = build()
    bad, good = engine.submit(ask("Will this explode?")), engine.submit(ask())
    with pytest.raises(UserError, match=ANSWER_FAILED):
        list(bad)
    assert list(good)[-1] == ANSWER
