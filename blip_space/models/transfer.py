"""Copies numbers between the host and a model's device with as few waits as possible.

Depends on torch only. A step copies its numbers to the device once, and the chosen ids back once; any other read of a
tensor's values (`item`, `tolist`, `bool`, `nonzero`, a mask as an index) would make the host wait for the GPU. Memory
is pinned only where CUDA is initialized, which it is not where another program emulates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def to_device(numbers: Any, device: torch.device, dtype: torch.dtype = torch.long) -> torch.Tensor:
    """Numbers, or nested lists of them, as a tensor on `device`; the host does not wait for a GPU."""
    if device.type == "cuda" and _uses_cuda():
        return torch.tensor(numbers, dtype=dtype, pin_memory=True).to(device, non_blocking=True)
    return torch.tensor(numbers, dtype=dtype, device=device)


def copy_to_device(numbers: Any, target: torch.Tensor) -> None:
    """Overwrite an int64 tensor with numbers of its shape; the host does not wait for a GPU."""
    is_gpu = target.is_cuda and _uses_cuda()
    target.copy_(torch.tensor(numbers, dtype=torch.long, device="cpu", pin_memory=is_gpu), non_blocking=True)


def pixels_to_device(pixels: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Pixel values of images, each (1, ...), as one batch (n, ...) on that device; the host copies them to pinned
    memory and does not wait for a GPU."""
    if device.type == "cuda" and _uses_cuda():
        shape = (sum(len(part) for part in pixels), *pixels[0].shape[1:])
        pinned = torch.empty(shape, dtype=pixels[0].dtype, pin_memory=True)
        return torch.cat(list(pixels), out=pinned).to(device, non_blocking=True)
    return torch.cat(list(pixels)).to(device)


class HostCopy:
    """A copy of an int64 tensor (n,) to the host. It starts at once, and the device goes on with what is launched
    after it; only `read` waits, so a step does it once."""

    def __init__(self, values: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._values, self._numbers = values, list[int]()
        if values.is_cuda and _uses_cuda():
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types here
            self._event.record(torch.cuda.current_stream(values.device))

    def read(self) -> list[int]:
        """The values; waits until they are there, and not for later work of the device."""
        if not self._numbers:
            if self._event is not None:
                self._event.synchronize()  # lets other threads run
            self._numbers = self._values.tolist()
        return self._numbers


def _uses_cuda() -> bool:
    """Whether this process has CUDA and has started to use it."""
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # see above


def select_rows(tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """A copy of the tensor's `rows`, in this order. Unlike `tensor[rows]`, it does not make the host wait for a GPU."""
    return tensor.index_select(0, to_device(rows, tensor.device))


def join_rows(tensors: Sequence[torch.Tensor], order: Sequence[int]) -> torch.Tensor:
    """The rows of several tensors, in this order; copies only if necessary."""
    joined = tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
    return joined if list(order) == list(range(len(joined))) else select_rows(joined, order)
