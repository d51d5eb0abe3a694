"""What benchmarks need to know of a model's device: where to build and load it, and when it has finished.

The only module of the benchmarks that knows how a core uses CUDA graphs. Must not import any other benchmark.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from blip_space.catalogue import ModelSpec
from blip_space.loading import loader
from blip_space.loading.device import find_device
from blip_space.models.interface import VisionLanguageModel


def resolve(device: str) -> str:
    """torch's name of a device; `auto` is the one that the loader would choose."""
    return find_device(device).name


def load_model(spec: ModelSpec, precision: str, device: str) -> VisionLanguageModel:
    """Load a model on that device."""
    return loader.load_model(spec, precision, device=device)


def synchronize(device: torch.device | str) -> None:
    """Wait until a GPU has computed everything; a CPU has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def works(device: str) -> bool:
    """Whether the device still computes: after some errors of a GPU nothing does until the process ends."""
    try:
        return int(torch.ones(1, device=device).sum().item()) == 1
    except RuntimeError:
        return False


def decoding(core: Any) -> str:
    """How a core decodes: `graphs` and how many it has captured, or `eager` and why."""
    mode, reason = core.decode_mode
    return f"{mode} ({reason})"


def capture_graphs(core: Any) -> None:
    """Capture the graphs that earlier steps lacked, as a driver does in idle time. While nothing runs."""
    while core.capture_pending():
        pass


@contextmanager
def turned_off(variable: str) -> Iterator[None]:
    """Models and cores that are made in this context do without what `variable` of the environment turns off."""
    with patch.dict(os.environ, {variable: "0"}):
        yield
