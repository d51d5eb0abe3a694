"""Whether a machine computes on CUDA is known before torch is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from blip_space.serving import machine
from blip_space.serving.machine import Machine

BUILT_FOR_CUDA = "__all__ = ['cuda']\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
BUILT_FOR_CPUS = "__all__ = ['cuda']\ncuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n"


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, torch: str | None, *devices: str) -> None:
    """Let the machine have these files of devices, and a torch of this version."""
    package = folder / "torch"
    package.mkdir()
    if torch is not None:
        (package / "version.py").write_text(torch, "utf-8")
    found = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)
    monkeypatch.setattr(machine, "DEVICES", folder)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in devices:
        (folder / name).touch()


@pytest.mark.parametrize("device", ["nvidia0", "nvidia7", "dxg"])
def test_a_gpu_and_a_torch_for_cuda_are_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str) -> None:
    install(monkeypatch, tmp_path, BUILT_FOR_CUDA, device)
    assert Machine().has_cuda
    assert not Machine("cpu").has_cuda
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not Machine().has_cuda


@pytest.mark.parametrize(
    ("torch", "devices"), [(BUILT_FOR_CUDA, ["nvidiactl"]), (BUILT_FOR_CPUS, ["nvidia0"]), (None, ["nvidia0"])]
)
def test_without_a_gpu_or_a_torch_for_cuda_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torch: str | None, devices: list[str]
) -> None:
    install(monkeypatch, tmp_path, torch, *devices)
    assert not Machine().has_cuda
    assert Machine("cuda:1").has_cuda


def test_without_torch_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, BUILT_FOR_CUDA, "nvidia0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not Machine().has_cuda


def test_the_installed_torch_is_read_as_it_reports_itself() -> None:
    import torch

    assert machine._torch_has_cuda() is (torch.version.cuda is not None)
