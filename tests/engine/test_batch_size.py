"""How many rows a device gets by default, and the limits that follow from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from blip_space.engine import batch_size
from blip_space.engine.batch_size import folder_batch_size, streaming_batch_size
from blip_space.engine.core import EngineCore
from blip_space.engine.request import EngineConfig
from blip_space.loading.precision import SMALL_PARAMETERS
from tests.engine.fake_model import FakeModel, spec

PLENTY = 10_000


def model_on(device: str, *, parameters: int = SMALL_PARAMETERS) -> Any:
    model = FakeModel(spec(parameters=parameters))
    model.precision = replace(model.precision, device=device)
    return model


@pytest.fixture
def set_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many full context windows of keys and values there is memory for."""

    def set_windows(windows: float) -> None:
        monkeypatch.setattr(batch_size, "kv_positions", lambda model: int(windows * model.spec.context_tokens))

    return set_windows


@pytest.mark.parametrize(
    ("windows", "streams", "rows"),
    [(PLENTY, 64, 256), (255, 64, 128), (64, 64, 64), (63.9, 32, 32), (17, 16, 16), (1, 16, 16), (0, 16, 16)],
)
def test_a_gpu_gets_as_many_rows_as_its_memory_has_room_for(
    set_memory: Any, windows: float, streams: int, rows: int
) -> None:
    set_memory(windows)
    assert (streaming_batch_size(model_on("cuda:1")), folder_batch_size(model_on("cuda:1"))) == (streams, rows)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_get_few_whatever_their_memory(set_memory: Any, device: str) -> None:
    set_memory(PLENTY)
    small = model_on(device, parameters=SMALL_PARAMETERS - 1)
    assert [streaming_batch_size(model) for model in (small, model_on(device))] == [16, 16]
    assert [folder_batch_size(model) for model in (small, model_on(device))] == [64, 16]


@pytest.mark.parametrize(
    ("rows", "limits"), [(4, (4, 4, 32)), (16, (16, 4, 32)), (64, (64, 16, 128)), (100, (100, 25, 200))]
)
def test_searches_and_queue_follow_the_rows(rows: int, limits: tuple[int, ...]) -> None:
    def limits_of(config: EngineConfig) -> tuple[int, ...]:
        return (config.max_batch_size, config.max_beam_groups, config.max_waiting)

    assert limits_of(EngineConfig().resolve(rows)) == limits_of(EngineConfig(max_batch_size=rows).resolve(7)) == limits
    chosen = EngineConfig(max_batch_size=1, max_beam_groups=2, max_waiting=3)
    assert chosen.resolve(rows) == chosen


def test_a_core_has_the_rows_of_its_device_unless_a_number_is_given(set_memory: Any) -> None:
    set_memory(PLENTY)
    configs = [EngineCore(model_on("cpu"), config).config for config in (None, EngineConfig(max_batch_size=3))]
    assert [config.max_batch_size for config in configs] == [16, 3]
