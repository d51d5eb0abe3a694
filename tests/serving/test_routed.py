"""Which of several engines gets a request, and what is said of all of them."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from blip_space.engine.request import Request
from blip_space.errors import BusyError, DeviceError, ImageError, ModelError, UserError
from blip_space.images import ImageFile
from blip_space.serving.metrics import MetricsSnapshot
from blip_space.serving.protocol import EngineStatus
from blip_space.serving.response import ResponseStream
from blip_space.serving.routed import KNOWN_IMAGE, RoutedEngine
from tests.serving.contract import SPECS

DEVICES = ("cuda:0", "cuda:1")
ROWS = 16


class StubEngine:
    """Records requests and ends no answer; `error` is raised by every submission."""

    specs, default, replicas = {spec.name: spec for spec in SPECS}, SPECS[0], 1

    def __init__(self, device: str) -> None:
        self.state = EngineStatus(
            *("ready", "one", "bf16", device, 0, 0, "it fits"), loaded=("one",), rows=ROWS, decode="graphs"
        )
        self.requests, self.responses = list[Request](), list[ResponseStream]()
        self.calls = list[str]()
        self.error: UserError | None = None
        self.model_error: ModelError | None = None

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def status(self) -> EngineStatus:
        return self.state

    def submit(self, request: Request) -> ResponseStream:
        if self.error:
            raise self.error
        self.requests.append(request)
        self.responses.append(ResponseStream(deadline=time.monotonic() + 60))
        return self.responses[-1]

    def resolve_model(self, *_: Any) -> Any:
        if self.model_error:
            raise self.model_error
        return self.default

    def budget(self, **values: Any) -> Any:
        self.resolve_model()
        return values

    def fitting_precisions(self, _: Any) -> tuple[str, ...] | None:
        return ("bf16", "int4") if self.state.device == DEVICES[0] else ("fp32", "bf16")


@pytest.fixture
def stubs() -> tuple[StubEngine, StubEngine]:
    return StubEngine(DEVICES[0]), StubEngine(DEVICES[1])


@pytest.fixture
def engine(stubs: tuple[StubEngine, StubEngine]) -> RoutedEngine:
    return RoutedEngine(dict(zip(DEVICES, stubs, strict=True)))


def ask(number: int, model: str = "") -> Request:
    """A request about image `number`."""
    return Request(ImageFile(b"image %d" % number), "Who?", model=model)


def counts(stubs: tuple[StubEngine, StubEngine]) -> list[int]:
    return [len(stub.requests) for stub in stubs]


def test_requests_are_divided_by_the_number_of_unfinished_ones(
    engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine]
) -> None:
    for number in range(10):
        engine.submit(ask(number))
    assert counts(stubs) == [5, 5]
    for response in stubs[1].responses:
        response.finish()
    for number in range(10, 15):
        engine.submit(ask(number))
    assert counts(stubs) == [5, 10]


def test_a_request_that_is_being_prepared_counts(
    engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding an image may take longer than the pause until the next request."""
    prepared, entered, submit = threading.Event(), threading.Event(), stubs[0].submit

    def prepare(request: Request) -> ResponseStream:
        entered.set()
        prepared.wait(20)
        return submit(request)

    monkeypatch.setattr(stubs[0], "submit", prepare)
    first = threading.Thread(target=engine.submit, args=(ask(0),))
    first.start()
    assert entered.wait(20)
    engine.submit(ask(1))
    assert counts(stubs) == [0, 1]
    prepared.set()
    first.join()


def test_a_conversation_stays_where_its_image_is_known_unless_that_device_is_much_busier(
    engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine]
) -> None:
    engine.submit(ask(0))
    for _ in range(KNOWN_IMAGE):
        engine.submit(ask(0))
    assert counts(stubs) == [KNOWN_IMAGE + 1, 0]
    engine.submit(ask(0))
    assert counts(stubs) == [KNOWN_IMAGE + 1, 1]
    engine.submit(ask(0))
    assert counts(stubs) == [KNOWN_IMAGE + 1, 2], "the last engine that encoded it is remembered"


def test_the_models_know_an_image_separately(engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine]) -> None:
    for stub in stubs:
        stub.state = replace(stub.state, loaded=("one", "two"))
    engine.submit(ask(0))
    engine.submit(ask(0, model="two"))
    assert counts(stubs) == [1, 1]


def test_only_a_full_engine_has_another_one_load_its_model(
    engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine]
) -> None:
    stubs[1].state = replace(stubs[1].state, loaded=("two",))
    for number in range(ROWS):
        engine.submit(ask(number, model="two"))
    assert counts(stubs) == [0, ROWS]
    for number in range(ROWS, ROWS + 2):
        engine.submit(ask(number, model="two"))
    assert counts(stubs) == [1, ROWS + 1]


@pytest.mark.parametrize("error", [BusyError("full"), DeviceError("lost"), ModelError("does not fit")])
def test_an_engine_that_refuses_is_replaced_by_another(
    engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine], error: UserError
) -> None:
    stubs[0].error = error
    engine.submit(ask(0))
    assert counts(stubs) == [0, 1]
    stubs[1].error = BusyError("also full")
    with pytest.raises(type(error), match=str(error)):
        engine.submit(ask(1))
    stubs[0].error = None
    for number in range(3):
        engine.submit(ask(10 + number))
    assert counts(stubs) == [3, 1], "what was refused counts for none"


def test_an_invalid_request_is_tried_once(engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine]) -> None:
    stubs[0].error = ImageError("no image")
    with pytest.raises(ImageError):
        engine.submit(ask(0))
    assert counts(stubs) == [0, 0]


def test_a_failed_engine_is_the_last_choice_and_the_status_says_why(
    engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine]
) -> None:
    stubs[0].state = EngineStatus("failed", "one", "auto", "", 0, 0, error="It does not fit.", loaded=("one",))
    for number in range(3):
        engine.submit(ask(number))
    assert counts(stubs) == [0, 3]
    status = engine.status()
    assert (status.status, status.device, status.replicas) == ("ready", "cuda:1", 1)
    assert status.reason == "it fits; 1 of 2 GPUs are ready; cuda:0: It does not fit."
    stubs[1].state = replace(stubs[0].state, error="It failed.")
    assert (engine.status().status, engine.status().error) == ("failed", "It does not fit.")
    stubs[1].state = EngineStatus("loading", "one", "auto", "", 1, 0)
    assert (engine.status().status, engine.status().waiting) == ("loading", 1)


def test_the_status_has_the_counts_and_devices_of_all(
    engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine]
) -> None:
    metrics = MetricsSnapshot(10.0, 0.5, prefix_hits=3, restarts=1)
    stubs[0].state = replace(stubs[0].state, waiting=1, running=2, metrics=metrics)
    stubs[1].state = replace(stubs[1].state, waiting=3, running=4, loaded=("two", "one"))
    status = engine.status()
    assert (status.device, status.waiting, status.running) == ("cuda:0, cuda:1", 4, 6)
    assert status.reason == "it fits; 2 of 2 GPUs are ready"
    assert status.metrics == metrics
    assert (status.loaded, status.rows, status.replicas) == (("one", "two"), ROWS, 2)
    assert engine.replicas == 2


def test_all_start_and_stop_and_what_needs_one_device_asks_one(
    engine: RoutedEngine, stubs: tuple[StubEngine, StubEngine]
) -> None:
    engine.start()
    engine.stop()
    assert [stub.calls for stub in stubs] == [["start", "stop"]] * 2
    values = {"prompt": "", "language": "en", "turns": (), "model": "one", "max_new_tokens": 8}
    assert engine.budget(**values) == values  # type: ignore[arg-type, comparison-overlap]
    assert engine.fitting_precisions(SPECS[0]) == ("bf16",)
    stubs[0].model_error = ModelError("does not fit")
    assert engine.resolve_model("one", "en") is SPECS[0]
    assert engine.budget(**values) == values, "of the other device"  # type: ignore[arg-type, comparison-overlap]
    stubs[1].model_error = ModelError("nor there")
    with pytest.raises(ModelError, match="does not fit"):
        engine.resolve_model("one", "en")
