"""A replicated engine fulfils the contract of every engine; with one replica, on a local cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blip_space.apps.cluster import replicated_engine
from blip_space.apps.cluster.replicated_engine import ReplicatedEngine
from tests.apps.cluster.fake_replica import HOLD_FILE, FakeModelReplica
from tests.serving.contract import CONFIG, SPECS, EngineContract
from tests.serving.fakes import FileFlag, wait_until


class Replicated:
    """A replicated engine whose replica has fake models."""

    def __init__(self, flag: FileFlag) -> None:
        self.engine = ReplicatedEngine("local", SPECS, precision="auto", config=CONFIG, replicas=1)
        self.hold, self.release = flag.clear, flag.set
        self.engine.start()
        wait_until(lambda: self.engine.status().status == "ready")

    def is_running(self) -> bool:
        return self.engine.status().running == 1


@pytest.fixture(scope="class")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    """One for all tests, since a cluster takes seconds to start; the last test stops it."""
    file = tmp_path_factory.mktemp("replicas") / "hold"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOLD_FILE, str(file))
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
        patch.setattr(replicated_engine, "EngineReplica", FakeModelReplica)
        patch.setattr(replicated_engine, "WATCH_SECONDS", 0.05)
        subject = Replicated(FileFlag(file))
        yield subject
        subject.release()
        subject.engine.stop()


class TestReplicatedEngine(EngineContract):
    @pytest.fixture
    def subject(self, replicated: Replicated) -> Replicated:
        return replicated
