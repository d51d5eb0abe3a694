"""Where tests compute on a machine with a GPU.

`auto` is the processor there too, since most tests are about what is loaded, packed, logged and counted, which differs
on a GPU; so none of them is skipped. Tests that compare a model with transformers' own use `load_here` and run on the
GPU. Never run on one so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from blip_space.catalogue import ModelSpec
from blip_space.loading import device, loader, memory
from blip_space.loading.device import Device, cpu_has_bf16
from blip_space.models.interface import VisionLanguageModel

FIND_DEVICE: Callable[..., Device] = device.find_device


@pytest.fixture(scope="session", autouse=True)
def auto_is_the_processor() -> Iterator[None]:
    """A conftest that imports it has it for all of its tests."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        with on_the_processor():
            yield
    else:
        yield


@contextmanager
def on_the_processor() -> Iterator[None]:
    """`auto` is the processor; every other device is found as it is."""

    def find_processor(wanted: str = "auto") -> Device:
        is_processor = wanted in ("auto", "cpu")
        return Device("cpu", "the tests run on it", cpu_has_bf16()) if is_processor else FIND_DEVICE(wanted)

    with pytest.MonkeyPatch.context() as patch:
        for module in (device, loader, memory):
            patch.setattr(module, "find_device", find_processor)
        yield


def load_here(spec: ModelSpec, precision: str = "auto") -> VisionLanguageModel:
    """The model on the GPU of this machine, if it has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "find_device", FIND_DEVICE)
        return loader.load_model(spec, precision)
