"""Fixtures for the fake GPU."""

from __future__ import annotations

import pytest
import torch

from blip_space.engine import model_runner, sampling
from tests.engine.fake_gpu import CHOSEN


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces what a fake GPU cannot answer."""
    # transformers skips checks of fake tensors that would wait for real ones
    monkeypatch.setattr("transformers.utils.import_utils.is_fake_tensor", lambda _: False)
    monkeypatch.setattr(model_runner, "free_bytes", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # a fake tensor cannot be pinned, and needs not be


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of ids in each copy to the host."""
    counts = list[int]()

    def to_host(tokens: torch.Tensor) -> list[int]:
        assert tokens.device.type == "cuda"
        counts.append(len(tokens))
        return [CHOSEN] * len(tokens)

    monkeypatch.setattr(sampling, "to_host", to_host)
    return counts
