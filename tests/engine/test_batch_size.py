"""How many rows a device gets by default, and the limits that follow from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from blip_space.engine import batch_size, core
from blip_space.engine.batch_size import (
    folder_batch_size,
    folder_prefill_tokens,
    prefill_tokens,
    streaming_batch_size,
)
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
    [(PLENTY, 64, 256), (255, 64, 256), (64, 64, 256), (63.9, 32, 128), (17, 16, 64), (1, 16, 16), (0, 16, 16)],
)
def test_a_gpu_gets_as_many_rows_as_its_memory_has_room_for(
    set_memory: Any, windows: float, streams: int, rows: int
) -> None:
    """A stream may fill the context window, a caption is as long as its prompt and its limit."""
    set_memory(windows)
    model = model_on("cuda:1")
    length = model.spec.context_tokens // 4
    assert (streaming_batch_size(model), folder_batch_size(model, length)) == (streams, rows)
    assert folder_batch_size(model, length - 1) == rows  # which takes as much memory


def test_a_gpu_prefills_more_at_once_and_a_processor_all_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = model_on("cuda:0"), model_on("cpu")
    assert [prefill_tokens(model) for model in (gpu, cpu)] == [2_048, 512]
    monkeypatch.setattr(core, "prefill_tokens", lambda model: 7 if model is cpu else 0)
    assert EngineCore(cpu).config.max_prefill_tokens == 7
    assert [folder_prefill_tokens(model, 16) for model in (gpu, cpu)] == [4_096, 16 * cpu.spec.context_tokens]


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_get_few_whatever_their_memory(set_memory: Any, device: str) -> None:
    set_memory(PLENTY)
    small = model_on(device, parameters=SMALL_PARAMETERS - 1)
    assert [streaming_batch_size(model) for model in (small, model_on(device))] == [16, 16]
    assert [folder_batch_size(model, 60) for model in (small, model_on(device))] == [64, 16]


@pytest.mark.parametrize(
    ("rows", "limits"),
    [(4, (4, 4, 32, 64)), (16, (16, 4, 32, 64)), (64, (64, 16, 128, 256)), (100, (100, 25, 200, 400))],
)
def test_searches_and_queue_follow_the_rows(rows: int, limits: tuple[int, ...]) -> None:
    def limits_of(config: EngineConfig) -> tuple[int, ...]:
        return (config.max_batch_size, config.max_beam_groups, config.max_waiting, config.max_background)

    assert limits_of(EngineConfig().resolve(rows)) == limits_of(EngineConfig(max_batch_size=rows).resolve(7)) == limits
    chosen = EngineConfig(1, 2, max_waiting=3, max_background=4, max_prefill_tokens=5)
    assert chosen.resolve(rows) == chosen


def test_a_core_has_the_rows_of_its_device_unless_a_number_is_given(set_memory: Any) -> None:
    set_memory(PLENTY)
    configs = [EngineCore(model_on("cpu"), config).config for config in (None, EngineConfig(max_batch_size=3))]
    assert [config.max_batch_size for config in configs] == [16, 3]
