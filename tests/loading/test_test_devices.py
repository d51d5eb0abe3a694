"""On a machine with a GPU, which is replaced here, tests compute where `tests.devices` says."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from blip_space.catalogue import TINY_FOLDER, read_folder
from blip_space.loading import device, loader, memory
from tests import devices

SPEC = read_folder(TINY_FOLDER)


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (8_000, 9_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())


def test_auto_is_the_processor_wherever_a_device_is_found() -> None:
    modules: tuple[Any, ...] = (device, loader, memory)
    assert devices.FIND_DEVICE().name == "cuda:0"
    with devices.on_the_processor():
        assert [module.find_device().name for module in modules] == ["cpu"] * 3
        assert loader.load_model(SPEC).precision.device == "cpu"


def test_a_model_is_loaded_on_the_gpu_where_a_test_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = vars(loader)["find_device"]
    monkeypatch.setattr(loader, "load_model", lambda *_: vars(loader)["find_device"]())
    with devices.on_the_processor():
        found_device: Any = devices.load_here(SPEC)
    assert found_device.name == "cuda:0"
    assert vars(loader)["find_device"] is found
