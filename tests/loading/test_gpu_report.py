"""A sentence for each way in which torch can or cannot use a GPU; torch's calls are replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from blip_space.errors import DeviceError, UserError
from blip_space.loading import gpu_report


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with the driver of one GPU, which torch can use."""
    (tmp_path / "nvidia0").touch()
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Tue Jan 1\n")
    monkeypatch.setattr(gpu_report, "DRIVER_FILES", tmp_path)
    monkeypatch.setattr(gpu_report, "DRIVER_VERSION", version)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    values: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "get_device_name": "A100",
        "get_device_capability": (8, 6),
        "mem_get_info": (40e9, 80e9),
        "get_arch_list": ["sm_80", "sm_90a", "compute_120"],
    }
    for name, value in values.items():
        replace(monkeypatch, name, value)


def replace(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    monkeypatch.setattr(torch.cuda, name, lambda *_: value)


def test_a_usable_gpu_is_named_with_its_memory() -> None:
    assert list(gpu_report.describe_gpus()) == [
        "cuda:0 is A100 with 80 GB, of which 40 GB are free (driver 570.86.15, CUDA 12.8)."
    ]


@pytest.mark.parametrize("capability", [(7, 0), (1, 2)])
def test_a_gpu_without_code_in_torch_is_reported(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    replace(monkeypatch, "get_device_capability", capability)
    with pytest.raises(DeviceError, match=r"has no code \(compute capability"):
        list(gpu_report.describe_gpus())


def test_torch_without_cuda_beside_a_driver_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "is_available", False)
    with pytest.raises(DeviceError, match=r"driver 570\.86\.15, .* built for CUDA 12\.8, .* newer driver"):
        list(gpu_report.describe_gpus())
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match="built without CUDA"):
        list(gpu_report.describe_gpus())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES hides it"):
        list(gpu_report.describe_gpus())


def test_a_machine_without_a_gpu_uses_its_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    replace(monkeypatch, "is_available", False)
    monkeypatch.setattr(gpu_report, "DRIVER_FILES", tmp_path / "none")
    assert list(gpu_report.describe_gpus()) == [
        "There is no GPU that torch can use, so models compute on the processor."
    ]
