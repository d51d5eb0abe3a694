"""Laws of the request queue: its bounds, positions and timeouts, and cancelling."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from blip_space.callers import Caller
from blip_space.engine.request import Request
from blip_space.errors import BusyError, ImageError
from blip_space.images import ImageFile
from blip_space.options import GenerationOptions
from tests.serving.conftest import Build
from tests.serving.example_requests import BEST, ask
from tests.serving.fakes import FakeLoader, wait_until


@pytest.mark.parametrize("options", [GenerationOptions(), BEST])
def test_closing_the_updates_frees_the_slots(build: Build, loading: FakeLoader, options: GenerationOptions) -> None:
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


def test_a_request_cancelled_in_the_queue_is_never_started(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build()
    first, second, third = (engine.submit(ask(f"What is {name}?")) for name in ("one", "two", "three"))
    second.cancel()
    loading.gate.release(1_000)
    assert list(first)
    assert "three" in list(third)[-1]
    assert not any("two" in word for word in loading.models[0].generated_words)


def test_a_full_queue_refuses_before_an_image_is_decoded(build: Build, loading: FakeLoader) -> None:
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


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_one_address_never_fills_the_queue(build: Build, loading: FakeLoader, start: bool, background: bool) -> None:
    """Whether its requests wait for the model or in its core."""
    loading.gate = threading.Semaphore(0)
    engine = build(start=start, max_waiting=4, max_background=4, max_batch_size=1)
    greedy, quiet = Caller("127.0.0.2", ""), Caller("127.0.0.3", "")
    if start:
        engine.submit(ask(caller=greedy))
        wait_until(lambda: engine.status().running == 1)
    waiting = [engine.submit(ask(caller=greedy, background=background)) for _ in range(3)]
    with pytest.raises(BusyError, match="Many requests from your address are waiting already"):
        engine.submit(ask(caller=Caller(greedy.address, "other"), background=background))
    engine.submit(ask(caller=quiet, background=background))
    waiting[0].cancel()
    engine.submit(ask(caller=greedy, background=background))
    with pytest.raises(BusyError, match="4 questions are waiting"):
        engine.submit(ask(caller=quiet, background=background))


def test_the_queue_before_the_first_load_is_bounded_and_ignores_cancelled_requests(build: Build) -> None:
    engine = build(start=False, max_waiting=2)
    first, second = engine.submit(ask()), engine.submit(ask())
    with pytest.raises(BusyError, match="2 questions are waiting"):
        engine.submit(ask())
    first.cancel()
    assert (engine.status().waiting, second.queue_position()) == (1, 0)
    assert engine.submit(ask()).queue_position() == 1


def test_two_requests_prepared_at_once_do_not_both_take_the_last_position(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build(start=False, max_waiting=1)
    get = engine._preparations.get

    def submit_another_first(its_spec: Any) -> Any:
        monkeypatch.setattr(engine._preparations, "get", get)
        engine.submit(ask())
        return get(its_spec)

    monkeypatch.setattr(engine._preparations, "get", submit_another_first)
    with pytest.raises(BusyError, match="1 questions are waiting"):
        engine.submit(ask())


def test_background_requests_have_their_own_queue(build: Build, loading: FakeLoader) -> None:
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
def test_a_timeout_ends_the_wait_while_the_thread_is_blocked(
    build: Build, loading: FakeLoader, background: bool
) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(**{"background_timeout_seconds" if background else "timeout_seconds": 0.05})
    with pytest.raises(BusyError, match="took too long"):
        list(engine.submit(ask(background=background)))


def test_a_waiting_response_has_its_queue_position(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1)
    responses = [engine.submit(ask()) for _ in range(3)]
    wait_until(lambda: engine.status().running == 1)
    assert [response.queue_position() for response in responses] == [None, 0, 1]
    loading.gate.release(10_000)
    assert list(responses[-1])
    assert responses[-1].queue_position() is None


def test_the_queue_is_as_long_as_the_rows_of_the_loaded_model_are_worth(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blip_space.engine.core.streaming_batch_size", lambda _: 20)
    loading.gate = threading.Semaphore(0)
    engine = build(start=False)
    for _ in range(32):
        engine.submit(ask())
    with pytest.raises(BusyError, match="32 questions are waiting"):
        engine.submit(ask())
    assert engine.status().rows == 0
    engine.start()
    wait_until(lambda: engine.status().running == 20)
    assert engine.status().rows == 20
    for _ in range(28):
        engine.submit(ask())
    with pytest.raises(BusyError, match="40 questions are waiting"):
        engine.submit(ask())
