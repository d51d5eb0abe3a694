"""Captures on CUDA, whose calls are replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from blip_space.engine.cuda_graphs import CudaGraphs


class Stream:
    """A stream that is only named."""

    def wait_stream(self, _: Any) -> None:
        pass


class FakeCuda:
    """What torch does with random numbers: from the beginning of a capture to its successful end they can only be
    captured."""

    def __init__(self) -> None:
        self.is_capturing = False
        self.fails = False

    @contextmanager
    def graph(self, *_: Any, **__: Any) -> Iterator[None]:
        self.is_capturing = True
        yield
        if self.fails:
            self.fails = False
            raise RuntimeError("operation failed due to a previous error during capture")
        self.is_capturing = False


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for name in ("Stream", "current_stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: Stream())
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", fake.graph)
    monkeypatch.setattr(Stream, "replay", lambda _: None, raising=False)
    return fake


def test_a_capture_that_fails_leaves_the_random_numbers_usable(cuda: FakeCuda) -> None:
    graphs = CudaGraphs(torch.device("cpu"))
    assert graphs.capture(lambda: torch.ones(2))[1].tolist() == [1, 1]
    cuda.fails = True
    with pytest.raises(RuntimeError, match="previous error"):
        graphs.capture(lambda: torch.ones(2))
    assert not cuda.is_capturing
