"""A replica with fake models, whose answers block while a file exists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from blip_space.apps.cluster.replica import EngineReplica
from blip_space.catalogue import ModelSpec
from blip_space.engine.request import EngineConfig
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.threaded import ThreadedEngine
from tests.serving.fakes import FakeLoader, FileFlag, Gate

HOLD_FILE = "BLIP_SPACE_TEST_HOLD"


class FakeModelReplica(EngineReplica):
    """Replaces `EngineReplica` in a test's cluster, whose processes have the test's environment."""

    def _build(self, specs: Sequence[ModelSpec], precision: str, config: EngineConfig) -> EngineProtocol:
        loading = FakeLoader()
        loading.gate = Gate(FileFlag(Path(os.environ[HOLD_FILE])))
        return ThreadedEngine(specs, precision=precision, config=config, load=loading, load_preparation=loading.prepare)
