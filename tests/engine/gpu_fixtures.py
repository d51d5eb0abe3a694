"""Fixtures for the fake GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from blip_space.engine import model_runner, sampling
from blip_space.engine import slots as slots_module
from blip_space.engine.prefill_functions import DecoderOnlyPrefill, EncoderDecoderPrefill
from blip_space.engine.slot_batches import DecoderOnlySlots, EncoderDecoderSlots
from blip_space.engine.slot_prefill import SlotPrefill
from blip_space.engine.slots import Slots
from blip_space.models.families.blip2 import Blip2
from blip_space.models.families.llava import Llava
from blip_space.models.transfer import HostCopy
from tests.engine.fake_gpu import CHOSEN, capturing


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces what a fake GPU cannot answer."""
    # transformers skips checks of fake tensors that would wait for real ones
    monkeypatch.setattr("transformers.utils.import_utils.is_fake_tensor", lambda _: False)
    monkeypatch.setattr(model_runner, "free_bytes", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # a fake tensor cannot be pinned, and needs not be
    monkeypatch.setattr(slots_module, "LAUNCH_EAGER", True)
    for slots in (DecoderOnlySlots, EncoderDecoderSlots):
        monkeypatch.setattr(slots, "_step", captured(slots._step))
    for function in (DecoderOnlyPrefill, EncoderDecoderPrefill):
        monkeypatch.setattr(function, "_compute", captured_prefill(function._compute))
    for family in (Blip2, Llava):
        monkeypatch.setattr(family, "encode_pixels", captured_encoder(family.encode_pixels))


def captured_prefill(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Likewise the prefill."""

    def checked(prefill: SlotPrefill, inputs: Any, *, is_padded: bool) -> Any:
        with capturing():
            return compute(prefill, inputs, is_padded=is_padded)

    return checked


def captured_encoder(encode: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Likewise the vision encoder."""

    def checked(model: Any, pixels: torch.Tensor) -> torch.Tensor:
        with capturing():
            return encode(model, pixels)

    return checked


def captured(step: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The step, in which the host may copy nothing."""

    def checked(batch: Slots, inputs: torch.Tensor) -> torch.Tensor:
        with capturing():
            return step(batch, inputs)

    return checked


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of ids in each copy to the host."""
    counts = list[int]()

    class FakeCopy(HostCopy):
        def __init__(self, values: torch.Tensor) -> None:
            assert values.device.type == "cuda"
            super().__init__(values)

        def read(self) -> list[int]:
            counts.append(len(self._values))
            return [CHOSEN] * len(self._values)

    monkeypatch.setattr(sampling, "HostCopy", FakeCopy)
    return counts
