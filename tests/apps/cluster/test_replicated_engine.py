"""What a replicated engine does with its replicas' responses, with a fake handle and no cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray import serve

from blip_space.apps.cluster import replicated_engine
from blip_space.apps.cluster.connection import WorkerResources
from blip_space.apps.cluster.replica import PartialResponse
from blip_space.apps.cluster.replicated_engine import ANSWER_LOST, NOT_STARTED, ReplicatedEngine
from blip_space.callers import Caller
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import BusyError, ModelError, UserError
from blip_space.images import ImageFile, decode
from blip_space.serving.protocol import EngineStatus
from tests.apps.fake_engine import PARROT, READY
from tests.example_images import blue_circles
from tests.serving.fakes import wait_until

REQUEST = Request(ImageFile(blue_circles()), "one two", caller=Caller("127.0.0.2", "one"))


class Stream:
    """The parts of one answer, as Ray Serve streams them; records whether it was cancelled."""

    def __init__(self, parts: Iterator[PartialResponse]) -> None:
        self._parts = parts
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[PartialResponse]:
        return self._parts

    def cancel(self) -> None:
        self.cancelled.set()
        raise RuntimeError("its replica is dead")  # must not reach the reader


class Handle:
    """Replaces Ray Serve's handle of a deployment; `answers` are the streams that its replicas return, in order."""

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
                return [READY, RuntimeError("one is dead")]

        return Replies()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplicatedEngine]:
    """One without a cluster; its replicas are not started yet."""
    monkeypatch.setattr(replicated_engine, "connect", lambda _: None)
    monkeypatch.setattr(replicated_engine, "resources_per_worker", lambda *_: WorkerResources(2, {"num_cpus": 1}))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(serve, "delete", lambda _: None)
    monkeypatch.setattr(serve, "start", lambda **_: None)
    monkeypatch.setattr(replicated_engine, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(replicated_engine, "RETRY_SECONDS", 0.01)
    engine = ReplicatedEngine("local", [PARROT], precision="auto", config=EngineConfig(), replicas=2)
    yield engine
    engine.stop()


def make_ready(engine: ReplicatedEngine, handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "run_many", lambda *_, **__: (handle,))
    engine.start()
    wait_until(lambda: engine.status().status == "ready")


def endless() -> Iterator[PartialResponse]:
    while True:
        yield PartialResponse("so far", 2, queue_position=None)


def complete() -> Iterator[PartialResponse]:
    yield PartialResponse("one", 1)
    yield PartialResponse("one two", 2, repeats=True)


def dying() -> Iterator[PartialResponse]:
    yield PartialResponse("one", 1)
    raise TimeoutError


def refusing() -> Iterator[PartialResponse]:
    yield PartialResponse(error=BusyError("The server is busy."))


def test_an_answer_arrives_complete_with_its_token_count(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Handle(complete)
    make_ready(engine, handle, monkeypatch)
    response = engine.submit(REQUEST)
    assert list(response)[-1] == "one two"
    assert (response.tokens, response.repeats) == (2, True)
    assert handle.requests[0].caller == REQUEST.caller


def test_closing_the_updates_cancels_the_stream_at_its_replica(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is only dropped is generated to its end."""
    handle = Handle(endless)
    make_ready(engine, handle, monkeypatch)
    updates = engine.submit(REQUEST).updates()
    assert next(updates) == "so far"
    updates.close()  # type: ignore[attr-defined]
    assert handle.streams[0].cancelled.wait(60)


def test_an_answer_whose_replica_died_is_restarted_and_its_stream_cancelled(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Handle(dying, refusing)
    make_ready(engine, handle, monkeypatch)
    with pytest.raises(BusyError, match="The server is busy"):
        list(engine.submit(REQUEST))
    assert all(stream.cancelled.wait(60) for stream in handle.streams)
    assert len(handle.streams) == 2


def test_an_answer_whose_replicas_all_die_ends_with_an_error(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ready(engine, Handle(dying, dying, dying), monkeypatch)
    with pytest.raises(UserError, match=ANSWER_LOST):
        list(engine.submit(REQUEST))


def test_images_are_sent_as_encoded_bytes_with_their_digest_as_session_id(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Handle(complete, complete, complete)
    make_ready(engine, handle, monkeypatch)
    decoded = Request(decode(blue_circles()), "one two")
    for request in (REQUEST, REQUEST, decoded):
        assert list(engine.submit(request))
    assert all(isinstance(request.image, ImageFile) for request in handle.requests)
    assert handle.session_ids[:2] == [REQUEST.image.digest] * 2
    with handle.requests[2].image.open() as image:
        assert image.pixels.tobytes() == decode(blue_circles()).pixels.tobytes()


def test_replicas_that_do_not_start_are_reported_and_retried(
    engine: ReplicatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ended, and the page showed for ever that they were being started."""
    gate = threading.Event()

    def run(*_: Any, **__: Any) -> Any:
        if not gate.is_set():
            raise ValueError("the address of the cluster changed")
        return (Handle(complete),)

    monkeypatch.setattr(serve, "run_many", run)
    engine.start()
    wait_until(lambda: engine.status().status == "failed")
    assert engine.status().error == NOT_STARTED
    with pytest.raises(ModelError, match=NOT_STARTED):
        engine.submit(REQUEST)
    gate.set()
    wait_until(lambda: engine.status().status == "ready")
    assert list(engine.submit(REQUEST))[-1] == "one two"


def test_until_the_replicas_are_ready_the_engine_is_loading(engine: ReplicatedEngine) -> None:
    assert engine.status() == EngineStatus("loading", "parrot", "auto", "", 0, 0, replicas=0)
    with pytest.raises(BusyError, match="is starting its replicas"):
        engine.submit(REQUEST)
