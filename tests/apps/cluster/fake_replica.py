"""A replica with fake models, whose answers block while a file exists."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from blip_space.apps.cluster.replica import EngineReplica
from blip_space.catalogue import ModelSpec
from blip_space.engine.request import EngineConfig
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.threaded import ThreadedEngine
from tests.serving.fakes import FakeLoader, Gate

HOLD_FILE = "BLIP_SPACE_TEST_HOLD"


class FileFlag:
    """A flag between processes: set while the file does not exist."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def wait(self) -> None:
        pause = threading.Event()
        while self._file.exists():
            pause.wait(0.01)

    def set(self) -> None:
        self._file.unlink(missing_ok=True)

    def clear(self) -> None:
        self._file.touch()


class FakeModelReplica(EngineReplica):
    """Replaces `EngineReplica` in a test's cluster, whose processes have the test's environment."""

    def _build(self, specs: Sequence[ModelSpec], precision: str, config: EngineConfig) -> EngineProtocol:
        loading = FakeLoader()
        loading.gate = Gate(FileFlag(Path(os.environ[HOLD_FILE])))
        return ThreadedEngine(specs, precision=precision, config=config, load=loading, load_preparation=loading.prepare)
