"""Laws of the engine's thread, with models of words: the queue, cancelling, timeouts, faults, and its status."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from blip_space.engine.request import Request
from blip_space.errors import BusyError, ImageError, ModelError, UserError
from blip_space.images import ImageFile, SafeImage
from blip_space.options import GenerationOptions
from blip_space.serving.response import ResponseStream
from blip_space.serving.threaded import POLL_SECONDS, ThreadedEngine
from tests.engine.fake_model import spec
from tests.serving.conftest import Build
from tests.serving.fakes import FakeLoader, wait_until

IMAGE = SafeImage(Image.new("RGB", (2, 2)), digest="a" * 64)
BEST = GenerationOptions(quality="best")
ANSWER = "Question: What is it? Short answer in English:"
BUDGET: dict[str, Any] = {"prompt": "What?", "language": "en", "turns": (), "max_new_tokens": 8}


def ask(words: str = "What is it?", **changes: Any) -> Request:
    return Request(IMAGE, words, **changes)


def break_once(engine: ThreadedEngine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine's thread fail where it calls this method of its driver next."""
    plain = getattr(engine._driver, name)

    def fail(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(engine._driver, name, plain)
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine._driver, name, fail)


def test_an_engine_that_was_not_started_is_loading_and_already_takes_requests(build: Build) -> None:
    engine = build(start=False)
    response = engine.submit(ask())
    assert (engine.status().status, engine.status().waiting, engine.status().loaded) == ("loading", 1, ())
    engine.start()
    assert list(response)[-1] == ANSWER


def test_the_state_goes_from_loading_to_ready(build: Build, loading: FakeLoader) -> None:
    loading.may_finish.clear()
    engine = build()
    wait_until(lambda: engine.status().load_progress is not None)
    assert engine.status().status == "loading"
    loading.may_finish.set()
    wait_until(lambda: engine.status().status == "ready")
    status = engine.status()
    assert (status.model, status.precision, status.device, status.loaded) == ("fake", "fp32", "cpu", ("fake",))


def test_many_users_each_get_their_own_words_and_wait_for_nobody_else(build: Build, loading: FakeLoader) -> None:
    engine = build(max_waiting=64)
    responses = {number: engine.submit(ask(f"What is {number}?")) for number in range(40)}
    for number, response in responses.items():
        assert list(response)[-1] == f"Question: What is {number}? Short answer in English:"
    assert loading.models[0].encoded_images == 1


@pytest.mark.parametrize("options", [GenerationOptions(), BEST])
def test_closing_the_updates_frees_the_rows(build: Build, loading: FakeLoader, options: GenerationOptions) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build()
    response = engine.submit(ask("One two three four five?", options=options))
    updates = response.updates(heartbeat_seconds=0.01)
    next(updates)
    wait_until(lambda: engine.status().running == 1)
    updates.close()  # type: ignore[attr-defined]
    loading.gate.release(10)  # no more than two steps of five beams
    wait_until(lambda: engine.status().running == 0)
    assert "three" not in loading.models[0].generated_words


def test_a_request_cancelled_in_the_queue_is_never_begun(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build()
    first, second, third = (engine.submit(ask(f"What is {name}?")) for name in ("one", "two", "three"))
    second.cancel()
    loading.gate.release(1_000)
    assert list(first)
    assert "three" in list(third)[-1]
    assert not any("two" in word for word in loading.models[0].generated_words)


def test_a_full_queue_is_busy_and_says_so_before_an_image_is_decoded(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_waiting=2, max_batch_size=1)
    engine.submit(ask())
    wait_until(lambda: engine.status().running == 1)
    waiting = [engine.submit(ask()), engine.submit(ask())]
    with pytest.raises(BusyError, match="2 questions are waiting"):
        engine.submit(Request(ImageFile(b"no image"), "What is it?"))
    waiting[0].cancel()
    with pytest.raises(ImageError):
        engine.submit(Request(ImageFile(b"no image"), "What is it?"))
    assert engine.submit(ask()).queue_position() == 1


def test_a_queue_before_the_first_model_is_bounded_as_well_and_does_not_count_those_who_left(build: Build) -> None:
    engine = build(start=False, max_waiting=2)
    first, second = engine.submit(ask()), engine.submit(ask())
    with pytest.raises(BusyError, match="2 questions are waiting"):
        engine.submit(ask())
    first.cancel()
    assert (engine.status().waiting, second.queue_position()) == (1, 0)
    assert engine.submit(ask()).queue_position() == 1


def test_two_who_prepare_at_once_do_not_both_take_the_last_place(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build(start=False, max_waiting=1)
    plain = engine._preparations.get

    def overtaken(its_spec: Any) -> Any:
        monkeypatch.setattr(engine._preparations, "get", plain)
        engine.submit(ask())
        return plain(its_spec)

    monkeypatch.setattr(engine._preparations, "get", overtaken)
    with pytest.raises(BusyError, match="1 questions are waiting"):
        engine.submit(ask())


def test_a_thread_with_nothing_to_do_waits_unless_there_is_news(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go round without an end, or sleep on the request that has just come."""
    engine, waits = build(start=False), list[float | None]()
    monkeypatch.setattr(engine._changed, "wait", waits.append)
    assert engine._wait(is_idle=True)
    assert waits == [None]
    engine.submit(ask())
    assert engine._wait(is_idle=True)
    assert waits == [None]
    assert engine._wait(is_idle=True)
    assert waits == [None, POLL_SECONDS]


def test_the_background_has_a_queue_of_its_own(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_waiting=1, max_background=2, max_batch_size=1)
    engine.submit(ask())
    wait_until(lambda: engine.status().running == 1)
    for _ in range(2):
        assert engine.submit(ask(background=True)).queue_position() is None
    with pytest.raises(BusyError, match="2 questions are waiting"):
        engine.submit(ask(background=True))
    assert engine.status().waiting == 0
    assert engine.submit(ask()).queue_position() == 0


@pytest.mark.parametrize("background", [False, True])
def test_a_timeout_ends_the_wait_while_the_thread_is_held(build: Build, loading: FakeLoader, background: bool) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(**{"background_timeout_seconds" if background else "timeout_seconds": 0.05})
    with pytest.raises(BusyError, match="took too long"):
        list(engine.submit(ask(background=background)))


def test_a_user_who_waits_sees_how_many_are_before_him(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1)
    responses = [engine.submit(ask()) for _ in range(3)]
    wait_until(lambda: engine.status().running == 1)
    assert [response.queue_position() for response in responses] == [None, 0, 1]
    loading.gate.release(10_000)
    assert list(responses[-1])
    assert responses[-1].queue_position() is None


@pytest.mark.parametrize("ends", ["whole", "cancelled"])
def test_an_answer_that_ended_holds_no_image_until_some_later_collection(build: Build, ends: str) -> None:
    """A cycle of response and task kept every image; a soak grew by 30 kB an answer."""
    engine, freed = build(), [threading.Event(), threading.Event()]
    gc.disable()
    try:
        request = ask(options=GenerationOptions(max_new_tokens=2))
        response = engine.submit(request)
        weakref.finalize(request, freed[0].set)
        weakref.finalize(response, freed[1].set)
        del request
        if ends == "whole":
            assert list(response)
        response.cancel()
        del response
        wait_until(lambda: all(event.is_set() for event in freed))
    finally:
        gc.enable()


def test_the_request_is_gone_while_its_answer_is_on_the_way(build: Build, loading: FakeLoader) -> None:
    """Images stayed at full size until the answer ended."""
    loading.gate = threading.Semaphore(0)
    engine, freed = build(), threading.Event()
    request = replace(ask(), image=SafeImage(Image.new("RGB", (2, 2)), digest="b"))
    weakref.finalize(request.image, freed.set)
    response = engine.submit(request)
    del request
    gc.collect()
    assert freed.is_set()
    assert not response.done


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_replaced_exactly_once_and_those_who_wait_are_answered(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight users who noticed it at once started six threads on one model."""
    loading.gate = threading.Semaphore(1)
    engine = build(max_batch_size=1, max_waiting=64)
    running, waiting = engine.submit(ask("Who runs?")), engine.submit(ask("Who waits?"))
    wait_until(lambda: engine.status().running == 1)
    first, step = engine._thread, engine._driver._step

    def die(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(engine._driver, "_step", step)
        raise SystemExit

    monkeypatch.setattr(engine._driver, "_step", die)
    loading.gate.release()
    assert first is not None
    wait_until(lambda: not first.is_alive())
    begun = []
    monkeypatch.setattr(engine, "_start_thread", lambda start=engine._start_thread: begun.append(start()))
    start = threading.Barrier(8)

    def look(_: int) -> None:
        start.wait()
        engine.submit(ask("Who comes?"))
        engine.status()

    users = [threading.Thread(target=look, args=(number,)) for number in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert len(begun) == 1
    loading.gate.release(10_000)
    with pytest.raises(UserError, match="internal error"):
        list(running)
    assert list(waiting)[-1] == "Question: Who waits? Short answer in English:"
    assert engine.status().metrics.restarts == 1
    assert loading.events == ["load fake"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("how", ["asks", "looks"])
def test_whoever_comes_first_notices_that_the_thread_died(
    build: Build, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
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
    if how == "asks":
        assert list(engine.submit(ask()))[-1] == ANSWER
    else:
        engine.status()
    assert list(lost)[-1] == ANSWER


def test_a_fault_of_the_thread_ends_what_ran_and_nothing_else(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.gate = threading.Semaphore(1)
    engine = build(max_batch_size=1)
    running, waiting = engine.submit(ask("Who runs?")), engine.submit(ask("Who waits?"))
    wait_until(lambda: engine.status().running == 1)
    break_once(engine, "_step", monkeypatch)
    loading.gate.release(10_000)
    with pytest.raises(UserError, match="internal error"):
        list(running)
    assert list(waiting)[-1] == "Question: Who waits? Short answer in English:"
    assert engine.status().metrics.restarts == 1


def test_a_fault_ends_nobody_who_waited_behind_an_answer_that_was_whole(build: Build) -> None:
    """Its row was still counted, so one who waited was taken for one who ran."""
    engine = build(start=False, max_batch_size=2)
    driver = engine._driver
    driver.load(engine.default)
    whole, running, waiting = (engine.submit(ask(f"Who {words}?")) for words in ("is it", "runs so long", "waits"))
    while not whole.done:
        driver.iterate()
    driver.recover()
    while driver.iterate():
        pass
    assert (list(whole)[-1], list(waiting)[-1]) == (
        "Question: Who is it? Short answer in English:",
        "Question: Who waits? Short answer in English:",
    )
    with pytest.raises(UserError, match="internal error"):
        list(running)


@pytest.mark.parametrize(
    ("changes", "firsts"), [({}, 1), ({"background": True}, 0), ({"options": BEST}, 0)], ids=["stream", "batch", "best"]
)
def test_each_token_is_counted_once_and_the_wait_only_where_somebody_sees_it_end(
    build: Build, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], firsts: int
) -> None:
    engine, counted = build(start=False), list[tuple[int, int]]()
    monkeypatch.setattr(engine._metrics, "add", lambda tokens, waits: counted.append((tokens, len(waits))))
    engine.start()
    response = engine.submit(ask(**changes))
    assert list(response)[-1] == ANSWER
    wait_until(lambda: engine.status().running == 0)
    assert [sum(column) for column in zip(*counted, strict=True)] == [response.tokens, firsts]


def test_a_fault_of_the_thread_does_not_end_who_waits_behind_one_who_left(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.gate = threading.Semaphore(1)
    engine = build(max_batch_size=1)
    leaves, waiting = engine.submit(ask("Who leaves?")), engine.submit(ask("Who waits?"))
    wait_until(lambda: engine.status().running == 1)
    leaves.cancel()
    break_once(engine, "_step", monkeypatch)
    loading.gate.release(10_000)
    assert list(waiting)[-1] == "Question: Who waits? Short answer in English:"


def test_an_answer_that_is_whole_when_the_thread_fails_is_not_waited_for_in_vain(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in no core any more, and its reader waited until the deadline."""
    engine = build(start=False, timeout_seconds=20.0)
    response = engine.submit(ask(options=GenerationOptions(max_new_tokens=1)))
    break_once(engine, "_publish", monkeypatch)
    engine.start()
    with pytest.raises(UserError, match="internal error"):
        list(response)
    assert list(engine.submit(ask()))[-1] == ANSWER
    wait_until(lambda: not engine._driver.tasks())


def test_an_answer_that_is_whole_before_its_request_has_been_noted_is_published(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output was dropped, as that of one who left, and its reader waited until the deadline."""
    engine = build(timeout_seconds=20.0)
    assert list(engine.submit(ask()))
    core = engine._driver._models.loaded[0].core
    entered, added, stepped = (threading.Event() for _ in range(3))
    step, add = core.step, core.add

    def step_with_it(now: float, **given: Any) -> Any:
        entered.set()
        added.wait()
        try:
            return step(now, **given)
        finally:
            stepped.set()

    def add_before_a_step(request: Any) -> int:
        number = add(request)
        added.set()
        stepped.wait()
        return number

    monkeypatch.setattr(core, "step", step_with_it)
    running = engine.submit(ask())
    entered.wait()
    monkeypatch.setattr(core, "add", add_before_a_step)
    assert list(engine.submit(ask(options=GenerationOptions(max_new_tokens=1)))) == ["Question:"]
    assert list(running)[-1] == ANSWER


def test_a_text_that_is_begun_again_is_shown_once_it_is_as_long_as_before() -> None:
    response = ResponseStream(deadline=time.monotonic() + 60)
    updates = response.updates(heartbeat_seconds=0.0)
    shown = []
    for text in ("one two", "", "one", "one two three"):
        response.publish(text)
        shown.append(next(updates))
    assert shown == ["one two", "one two", "one two", "one two three"]


def test_the_metrics_say_what_was_not_done_twice(build: Build) -> None:
    engine = build()
    for _ in range(3):
        assert list(engine.submit(ask()))
    metrics = engine.status().metrics
    assert (metrics.prefix_hits, metrics.restarts) == (2, 0)
    assert metrics.first_token_seconds is not None
    assert metrics.tokens_per_second > 0


def test_a_heartbeat_repeats_the_unchanged_text(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    updates = build().submit(ask()).updates(heartbeat_seconds=0.01)
    assert [next(updates), next(updates)] == ["", ""]


def test_a_bug_ends_its_own_request_and_no_other(build: Build) -> None:
    engine = build()
    bad, good = engine.submit(ask("Will this explode?")), engine.submit(ask())
    with pytest.raises(UserError, match="internal error"):
        list(bad)
    assert list(good)[-1] == ANSWER


def test_what_is_wrong_with_a_request_is_said_at_once(build: Build) -> None:
    engine = build()
    with pytest.raises(UserError, match=r"60\d tokens long"):
        engine.submit(ask("word " * 600 + "?"))
    with pytest.raises(ImageError):
        engine.submit(Request(ImageFile(b"no image")))
    assert engine.status().waiting == 0


def test_a_beam_search_answers_at_once_and_whole(build: Build) -> None:
    assert list(build().submit(ask(options=BEST))) == [ANSWER]


def test_a_model_that_does_not_load_is_told_to_everyone_and_the_engine_stays(build: Build, loading: FakeLoader) -> None:
    loading.failing = {"fake"}
    engine = build()
    wait_until(lambda: engine.status().status == "failed")
    assert "Download it again" in engine.status().error
    with pytest.raises(ModelError, match="has no weights"):
        engine.submit(ask())


def test_a_model_with_a_fault_is_never_loaded_and_says_its_fault(build: Build, loading: FakeLoader) -> None:
    engine = build(spec(load_error="It has no weights. Copy them.", languages=()))
    wait_until(lambda: engine.status().status == "failed")
    assert engine.status().error == "It has no weights. Copy them."
    loading.now += 1_000_000
    with pytest.raises(ModelError, match="Copy them"):
        engine.submit(ask())
    assert loading.events == []


def test_the_budget_needs_no_weights(build: Build, loading: FakeLoader) -> None:
    engine = build("one", "two", start=False)
    assert engine.budget(model="", **BUDGET).prompt == "Question: What? Short answer in English:"
    assert engine.budget(model="two", **BUDGET).image_tokens == 4
    assert loading.events == []


@pytest.mark.parametrize("options", [GenerationOptions(), BEST])
def test_stopping_tells_those_who_wait_at_once(build: Build, loading: FakeLoader, options: GenerationOptions) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1, max_beam_groups=1)
    running, waiting = engine.submit(ask(options=options)), engine.submit(ask(options=options))
    wait_until(lambda: engine.status().running == 1)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    for response in (running, waiting):  # the thread is held still
        with pytest.raises(BusyError, match="stopped"):
            list(response)
    loading.gate.release(100)
    stopping.join()
    with pytest.raises(BusyError, match="is stopping"):
        engine.submit(ask())


def test_stopping_says_whether_an_answer_had_begun_and_nothing_begins_afterwards(
    build: Build, loading: FakeLoader
) -> None:
    loading.gate = threading.Semaphore(1)
    engine = build(max_batch_size=1)
    running, waiting = engine.submit(ask()), engine.submit(ask())
    wait_until(lambda: running.tokens == 1)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    with pytest.raises(BusyError, match="stopped during this answer"):
        list(running)
    with pytest.raises(BusyError, match="stopped before this was answered"):
        list(waiting)
    loading.gate.release(100)
    stopping.join()
    thread = engine._thread
    assert engine.status().metrics.restarts == 0
    assert engine._thread is thread
    assert not (thread and thread.is_alive())


def test_stopping_while_a_model_loads_tells_those_who_wait(build: Build, loading: FakeLoader) -> None:
    loading.may_finish.clear()
    engine = build()
    response = engine.submit(ask())
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    with pytest.raises(BusyError, match="stopped before this was answered"):
        list(response)
    loading.may_finish.set()
    stopping.join()


def test_a_status_during_an_exchange_is_of_one_moment(build: Build, loading: FakeLoader) -> None:
    """It asked the model that was just closed, and the page said that something went wrong."""
    small = spec("one", parameters=100_000_000)
    loading.memory_bytes = 500_000_000
    engine = build(small, spec("two", parameters=100_000_000))
    wait_until(lambda: engine.status().status == "ready")
    ended = threading.Event()
    faults: list[Exception] = []

    def look() -> None:
        while not ended.is_set():
            try:
                assert len(engine.status().loaded) <= 1
                engine.fitting_precisions(small)
            except Exception as error:
                faults.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(20):
        assert list(engine.submit(ask(model=("two", "one")[number % 2])))
    ended.set()
    looking.join()
    assert faults == []
