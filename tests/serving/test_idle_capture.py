"""The engine's thread captures graphs while nothing runs, and says how it decodes."""

from __future__ import annotations

import pytest

from blip_space.engine.core import EngineCore
from tests.serving.conftest import Build
from tests.serving.example_requests import ANSWER, ask
from tests.serving.fakes import wait_until


def test_graphs_are_captured_while_nothing_runs(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    missing, busy = [1, 2, 3], list[bool]()

    def capture_pending(core: EngineCore) -> bool:
        busy.append(core.has_work)
        return bool(missing and missing.pop())

    monkeypatch.setattr(EngineCore, "capture_pending", capture_pending)
    engine = build(start=False)
    response = engine.submit(ask())
    assert missing == [1, 2, 3]
    engine.start()
    assert list(response)[-1] == ANSWER
    wait_until(lambda: not missing)
    assert not any(busy)


def test_the_status_says_how_a_loaded_model_decodes(build: Build) -> None:
    engine = build(start=False)
    assert (engine.status().decode, engine.status().decode_reason) == ("", "")
    engine.start()
    wait_until(lambda: engine.status().status == "ready")
    status = engine.status()
    assert (status.decode, status.decode_reason) == ("eager", "off: CUDA graphs need a CUDA GPU")
