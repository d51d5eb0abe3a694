"""What a replicated engine makes of its replicas' answers, with a handle that a test plays; no cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray import serve

from blip_space.apps.cluster import replicated_engine
from blip_space.apps.cluster.replica import PartialResponse
from blip_space.apps.cluster.replicated_engine import ANSWER_LOST, NOT_STARTED, ReplicatedEngine
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import BusyError, ModelError, UserError
from blip_space.images import ImageFile, decode
from blip_space.serving.protocol import EngineStatus
from tests.apps.fake_engine import PARROT, READY
from tests.example_images import blue_circles
from tests.serving.fakes import wait_until

REQUEST = Request(ImageFile(blue_circles()), "one two")


class Stream:
    """The parts of one answer, as Serve streams them; notes whether it was cancelled."""

    def __init__(self, parts: Iterator[PartialResponse]) -> None:
        self._parts = parts
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[PartialResponse]:
        return self._parts

    def cancel(self) -> None:
        self.cancelled.set()
        raise RuntimeError("its replica is gone")  # which must not reach the reader


class Handle:
    """What Serve gives for a deployment; `answers` are the streams that its replicas answer with, one after another."""

    def __init__(self, *answers: Callable[[], Iterator[PartialResponse]]) -> None:
        self._answers = iter(answers)
        self.streams: list[Stream] = []
        self.requests: list[Request] = []
        self.session_ids: list[str] = []

    def options(self, *, session_id: str, **_: Any) -> Handle:
        self.session_ids.append(session_id)
        return self

    def remote(self, request: Request) -> Stream:
        self.requests.append(request)
        self.streams.append(Stream(next(self._answers)()))
        return self.streams[-1]

    def broadcast(self, _: str) -> Any:
        class Replies:
            def results(self, **_: Any) -> list[Any]:
                return [READY, RuntimeError("one is gone")]

        return Replies()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplicatedEngine]:
    """One that is in no cluster; its replicas are not started yet."""
    monkeypatch.setattr(replicated_engine, "connect", lambda _: None)
    monkeypatch.setattr(replicated_engine, "resources_per_worker", lambda _: Share())
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(serve, "delete", lambda _: None)
    monkeypatch.setattr(serve, "start", lambda **_: None)
    monkeypatch.setattr(replicated_engine, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(replicated_engine, "RETRY_SECONDS", 0.01)
    made = ReplicatedEngine("local", [PARROT], precision="auto", config=EngineConfig(), replicas=2)
    yield made
    made.stop()


class Share:
    """What each replica gets."""

    workers = 2

    def ray_options(self) -> dict[str, int]:
        return {"num_cpus": 1}


def ready(engine: ReplicatedEngine, handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "run_many", lambda *_, **__: (handle,))
    engine.start()
    wait_until(lambda: engine.status().status == "ready")


def endless() -> Iterator[PartialResponse]:
    while True:
        yield PartialResponse("so far", 2, queue_position=None)


def whole() -> Iterator[PartialResponse]:
    yield PartialResponse("one", 1)
    yield PartialResponse("one two", 2, repeats=True)


def dying() -> Iterator[PartialResponse]:
    yield PartialResponse("one", 1)
    raise TimeoutError


def refusing() -> Iterator[PartialResponse]:
    yield PartialResponse(error=BusyError("The server is busy."))


def test_an_answer_comes_whole_with_what_is_known_of_it(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(engine, Handle(whole), monkeypatch)
    response = engine.submit(REQUEST)
    assert list(response)[-1] == "one two"
    assert (response.tokens, response.repeats) == (2, True)


def test_a_reader_who_leaves_cancels_the_stream_at_its_replica(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is only dropped is written to its end."""
    handle = Handle(endless)
    ready(engine, handle, monkeypatch)
    updates = engine.submit(REQUEST).updates()
    assert next(updates) == "so far"
    updates.close()  # type: ignore[attr-defined]
    assert handle.streams[0].cancelled.wait(5)


def test_an_answer_whose_replica_died_is_restarted_and_its_stream_cancelled(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Handle(dying, refusing)
    ready(engine, handle, monkeypatch)
    with pytest.raises(BusyError, match="The server is busy"):
        list(engine.submit(REQUEST))
    assert all(stream.cancelled.wait(5) for stream in handle.streams)
    assert len(handle.streams) == 2


def test_an_answer_whose_replicas_all_die_is_lost_with_a_sentence(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(engine, Handle(dying, dying, dying), monkeypatch)
    with pytest.raises(UserError, match=ANSWER_LOST):
        list(engine.submit(REQUEST))


def test_encoded_bytes_travel_and_equal_images_go_to_the_same_replica(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Handle(whole, whole, whole)
    ready(engine, handle, monkeypatch)
    decoded = Request(decode(blue_circles()), "one two")
    for request in (REQUEST, REQUEST, decoded):
        assert list(engine.submit(request))
    assert all(isinstance(request.image, ImageFile) for request in handle.requests)
    assert handle.session_ids[:2] == [REQUEST.image.digest] * 2
    with handle.requests[2].image.open() as image:
        assert image.pixels.tobytes() == decode(blue_circles()).pixels.tobytes()


def test_replicas_that_do_not_start_are_told_and_tried_again(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ended, and the page said for ever that they were being started."""
    gate = threading.Event()

    def run(*_: Any, **__: Any) -> Any:
        if not gate.is_set():
            raise ValueError("the address of the cluster changed")
        return (Handle(whole),)

    monkeypatch.setattr(serve, "run_many", run)
    engine.start()
    wait_until(lambda: engine.status().status == "failed")
    assert engine.status().error == NOT_STARTED
    with pytest.raises(ModelError, match=NOT_STARTED):
        engine.submit(REQUEST)
    gate.set()
    wait_until(lambda: engine.status().status == "ready")
    assert list(engine.submit(REQUEST))[-1] == "one two"


def test_before_the_replicas_are_there_the_engine_is_loading(engine: ReplicatedEngine) -> None:
    assert engine.status() == EngineStatus("loading", "parrot", "auto", "", 0, 0, replicas=0)
    with pytest.raises(BusyError, match="is starting its replicas"):
        engine.submit(REQUEST)
