"""Real engines behind one: it fulfils the contract of every engine, and divides requests among two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blip_space import catalogue
from blip_space.engine.request import Request
from blip_space.images import ImageFile
from blip_space.serving.routed import RoutedEngine
from blip_space.serving.threaded import ThreadedEngine
from tests.example_images import blue_circles
from tests.serving.contract import CONFIG, EngineContract
from tests.serving.contract import ask as ask_circles
from tests.serving.fakes import wait_until
from tests.serving.test_contract import Threaded

DEVICES = ("cuda:0", "cuda:1")


class Routed:
    """A single engine, since the contract is about one request at a time."""

    def __init__(self) -> None:
        self._threaded = Threaded()
        self.engine = RoutedEngine({DEVICES[0]: self._threaded.engine})
        self.hold, self.release = self._threaded.hold, self._threaded.release
        self.is_running = self._threaded.is_running


class TestRoutedEngine(EngineContract):
    @pytest.fixture
    def subject(self) -> Iterator[Routed]:
        subject = Routed()
        yield subject
        subject.release()
        subject.engine.stop()


def test_an_engine_whose_rows_are_taken_gets_no_request_while_another_has_a_free_one() -> None:
    """Even about an image that it knows."""
    subjects = [Threaded(), Threaded()]
    engine = RoutedEngine(dict(zip(DEVICES, [subject.engine for subject in subjects], strict=True)))
    try:
        wait_until(lambda: engine.status().replicas == 2)
        for subject in subjects:
            subject.hold()
        responses = [engine.submit(ask_circles()) for _ in range(2)]
        wait_until(lambda: all(subject.is_running() for subject in subjects))
        assert engine.status().running == 2 > CONFIG.max_batch_size
        for subject in subjects:
            subject.release()
        assert all("circles" in list(response)[-1] for response in responses)
    finally:
        engine.stop()


def test_an_image_is_encoded_once_on_one_of_two_devices() -> None:
    """By the embedded model, twice on the processor; each image has one of them to itself."""
    spec = catalogue.find_model("tiny")
    members = [ThreadedEngine([spec], device="cpu") for _ in DEVICES]
    engine = RoutedEngine(dict(zip(DEVICES, members, strict=True)))
    engine.start()
    try:
        wait_until(lambda: engine.status().status != "loading" and engine.status().replicas == 2)
        images = [ImageFile(blue_circles(count)) for count in (2, 3)]
        for question in ("What is this?", "How many circles are there?", "What colour are they?"):
            images.reverse()  # so that both orders occur
            responses = [engine.submit(Request(image, question)) for image in images]
            assert all(list(response)[-1] for response in responses)
        assert [member.status().metrics.prefix_hits for member in members] == [2, 2]
        assert engine.status().metrics.prefix_hits == 4
    finally:
        engine.stop()
