"""What is copied to a model's device arrives as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blip_space.models.transfer import pixels_to_device

PARTS = [torch.randint(256, (rows, 3, 4, 5), dtype=torch.uint8) for rows in (1, 1, 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_pixel_values_arrive_as_one_batch(dtype: torch.dtype) -> None:
    batch = pixels_to_device([part.to(dtype) for part in PARTS], torch.device("cpu"))
    assert batch.dtype == dtype
    assert torch.equal(batch, torch.cat(PARTS).to(dtype))


def test_for_a_gpu_they_are_copied_to_pinned_memory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor, with what a GPU would do replaced: the buffer, and the copy from it."""
    pinned, copied, empty = list[torch.Tensor](), list[Any](), torch.empty

    def pin(shape: Any, *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        pinned.append(empty(shape, dtype=dtype))
        return pinned[-1]

    def copy(tensor: torch.Tensor, target: Any, **how: Any) -> torch.Tensor:
        copied.append((tensor is pinned[0], target, how))
        return tensor

    for name in ("is_available", "is_initialized"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    monkeypatch.setattr(torch, "empty", pin)
    monkeypatch.setattr(torch.Tensor, "to", copy)
    batch = pixels_to_device(PARTS, torch.device("cuda:0"))
    assert copied == [(True, torch.device("cuda:0"), {"non_blocking": True})]
    assert torch.equal(batch, torch.cat(PARTS))


def test_nothing_is_pinned_where_cuda_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package `spaces` emulates CUDA without a driver, which pinning needs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, _target: tensor)
    assert torch.equal(pixels_to_device(PARTS, torch.device("cuda:0")), torch.cat(PARTS))
