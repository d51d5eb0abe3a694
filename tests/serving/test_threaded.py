"""Laws of the threaded engine, with fake models: its answers, its status, and stopping it."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from blip_space.engine.request import Request
from blip_space.errors import BusyError, ImageError, UserError
from blip_space.images import ImageFile, SafeImage
from blip_space.options import GenerationOptions
from blip_space.serving.threaded import POLL_SECONDS
from tests.serving.conftest import Build
from tests.serving.example_requests import ANSWER, BEST, ask
from tests.serving.fakes import FakeLoader, wait_until

BUDGET: dict[str, Any] = {"prompt": "What?", "language": "en", "turns": (), "max_new_tokens": 8}


def test_an_engine_queues_requests_before_it_is_started(build: Build) -> None:
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


def test_concurrent_users_each_get_their_own_answer(build: Build, loading: FakeLoader) -> None:
    engine = build(max_waiting=64)
    responses = {number: engine.submit(ask(f"What is {number}?")) for number in range(40)}
    for number, response in responses.items():
        assert list(response)[-1] == f"Question: What is {number}? Short answer in English:"
    assert loading.models[0].encoded_images == 1


def test_an_idle_thread_waits_unless_notified(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would spin, or sleep while a request that has just arrived waits."""
    engine, waits = build(start=False), list[float | None]()
    monkeypatch.setattr(engine._changed, "wait", waits.append)
    assert engine._wait(is_idle=True)
    assert waits == [None]
    engine.submit(ask())
    assert engine._wait(is_idle=True)
    assert waits == [None]
    assert engine._wait(is_idle=True)
    assert waits == [None, POLL_SECONDS]


@pytest.mark.parametrize("end", ["finished", "cancelled"])
def test_a_finished_response_frees_its_image_without_garbage_collection(build: Build, end: str) -> None:
    """A reference cycle of response and task kept every image; memory grew by 30 kB an answer."""
    engine, freed = build(), [threading.Event(), threading.Event()]
    gc.disable()
    try:
        request = ask(options=GenerationOptions(max_new_tokens=2))
        response = engine.submit(request)
        weakref.finalize(request, freed[0].set)
        weakref.finalize(response, freed[1].set)
        del request
        if end == "finished":
            assert list(response)
        response.cancel()
        del response
        wait_until(lambda: all(event.is_set() for event in freed))
    finally:
        gc.enable()


def test_the_image_is_freed_while_its_answer_is_generated(build: Build, loading: FakeLoader) -> None:
    """Decoded images stayed in memory until the answer ended."""
    loading.gate = threading.Semaphore(0)
    engine, freed = build(), threading.Event()
    request = replace(ask(), image=SafeImage(Image.new("RGB", (2, 2)), digest="b"))
    weakref.finalize(request.image, freed.set)
    response = engine.submit(request)
    del request
    gc.collect()
    assert freed.is_set()
    assert not response.done


@pytest.mark.parametrize(
    ("changes", "firsts"), [({}, 1), ({"background": True}, 0), ({"options": BEST}, 0)], ids=["stream", "batch", "best"]
)
def test_each_token_is_counted_once_and_the_first_token_only_if_streamed_to_a_user(
    build: Build, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], firsts: int
) -> None:
    engine, counted = build(start=False), list[tuple[int, int]]()
    monkeypatch.setattr(engine._metrics, "add", lambda tokens, waits: counted.append((tokens, len(waits))))
    engine.start()
    response = engine.submit(ask(**changes))
    assert list(response)[-1] == ANSWER
    wait_until(lambda: engine.status().running == 0)
    assert [sum(column) for column in zip(*counted, strict=True)] == [response.tokens, firsts]


def test_an_answer_that_finishes_before_its_task_is_registered_is_published(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output was dropped like that of a cancelled request, and its reader waited until the timeout."""
    engine = build(timeout_seconds=20.0)
    assert list(engine.submit(ask()))
    core = engine._driver._models.loaded[0].core
    entered, added, stepped = (threading.Event() for _ in range(3))
    step, add = core.step, core.add

    def step_after_add(now: float, **kwargs: Any) -> Any:
        entered.set()
        added.wait()
        try:
            return step(now, **kwargs)
        finally:
            stepped.set()

    def add_before_step(request: Any, **kwargs: Any) -> int:
        number = add(request, **kwargs)
        added.set()
        stepped.wait()
        return number

    monkeypatch.setattr(core, "step", step_after_add)
    running = engine.submit(ask())
    entered.wait()
    monkeypatch.setattr(core, "add", add_before_step)
    assert list(engine.submit(ask(options=GenerationOptions(max_new_tokens=1)))) == ["Question:"]
    assert list(running)[-1] == ANSWER


def test_the_metrics_count_cached_image_features(build: Build) -> None:
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


def test_an_invalid_request_is_refused_at_once(build: Build) -> None:
    engine = build()
    with pytest.raises(UserError, match=r"it has 60\d tokens"):
        engine.submit(ask("word " * 600 + "?"))
    with pytest.raises(ImageError):
        engine.submit(Request(ImageFile(b"no image")))
    assert engine.status().waiting == 0


def test_a_beam_search_publishes_the_complete_answer_only(build: Build) -> None:
    assert list(build().submit(ask(options=BEST))) == [ANSWER]


def test_the_budget_needs_no_weights(build: Build, loading: FakeLoader) -> None:
    engine = build("one", "two", start=False)
    assert engine.budget(model="", **BUDGET).prompt == "Question: What? Short answer in English:"
    assert engine.budget(model="two", **BUDGET).image_tokens == 4
    assert loading.events == []


@pytest.mark.parametrize("options", [GenerationOptions(), BEST])
def test_stopping_ends_all_responses_at_once(build: Build, loading: FakeLoader, options: GenerationOptions) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1, max_beam_groups=1)
    running, waiting = engine.submit(ask(options=options)), engine.submit(ask(options=options))
    wait_until(lambda: engine.status().running == 1)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    for response in (running, waiting):  # the thread is still blocked
        with pytest.raises(BusyError, match="stopped"):
            list(response)
    loading.gate.release(100)
    stopping.join()
    with pytest.raises(BusyError, match="is stopping"):
        engine.submit(ask())


def test_stopping_reports_whether_an_answer_had_started_and_starts_no_other(build: Build, loading: FakeLoader) -> None:
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


def test_stopping_during_a_load_ends_waiting_responses(build: Build, loading: FakeLoader) -> None:
    loading.may_finish.clear()
    engine = build()
    response = engine.submit(ask())
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    with pytest.raises(BusyError, match="stopped before this was answered"):
        list(response)
    loading.may_finish.set()
    stopping.join()
