"""The threaded engine and the fake engine of the apps' tests fulfil the same contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from blip_space.serving.threaded import ThreadedEngine
from tests.apps.fake_engine import FakeEngine
from tests.serving.contract import CONFIG, SPECS, EngineContract
from tests.serving.fakes import FakeLoader, Gate


class Threaded:
    """The real engine with fake models."""

    def __init__(self) -> None:
        loading, self._gate = FakeLoader(), Gate(threading.Event())
        loading.gate = self._gate
        self.release()
        self.engine = ThreadedEngine(SPECS, config=CONFIG, load=loading, load_preparation=loading.prepare)
        self.engine.start()

    def hold(self) -> None:
        self._gate.flag.clear()

    def release(self) -> None:
        self._gate.flag.set()

    def is_running(self) -> bool:
        return self.engine.status().running == 1


class Fake:
    """The engine of the apps' tests, which answers at once."""

    def __init__(self) -> None:
        self.engine = FakeEngine(*SPECS, config=CONFIG)
        self.hold, self.release = self.engine.hold, self.engine.release

    def is_running(self) -> bool:
        return True


class TestThreadedEngine(EngineContract):
    @pytest.fixture
    def subject(self) -> Iterator[Threaded]:
        subject = Threaded()
        yield subject
        subject.release()
        subject.engine.stop()


class TestFakeEngine(EngineContract):
    @pytest.fixture
    def subject(self) -> Iterator[Fake]:
        subject = Fake()
        yield subject
        subject.engine.stop()
