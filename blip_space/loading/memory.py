"""Checks whether a model's weights fit into memory, and raises the error if they do not.

A model that does not fit must be refused before it is loaded: Linux grants the memory, and kills the whole process when
it is used. Depends on sizes and devices; must not depend on a checkpoint's contents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.loading.device import Device, find_device, free_bytes
from blip_space.loading.precision import fits, needed_gb, supported_precisions
from blip_space.models.interface import Precision, VisionLanguageModel

MEMORY_SHARE, DEFAULT_BATCH_SIZE = 0.5, 16
"""The share of free memory for keys and values. If the free memory is unknown, it is assumed to hold this number of
sequences, each as long as the context window."""


def check_memory(spec: ModelSpec, precision: Precision, *, free: int | None, device: Device | None = None) -> None:
    """Raise `ModelError`, which names precisions that fit, if the weights alone need more than `free` bytes."""
    if free is not None and not fits(spec, precision.name, free, device):
        sizes = {name: needed_gb(spec, name, device) for name in spec.precisions if fits(spec, name, free, device)}
        needed = needed_gb(spec, precision.name, device)
        raise ModelError(_does_not_fit_message(spec, precision, needed, f", and {free / 1e9:.1f} GB are free", sizes))


def fitting_precisions(spec: ModelSpec, *, freed: int = 0, device_name: str = "auto") -> tuple[str, ...]:
    """The precisions in which the weights fit this machine's device now, once `freed` more bytes are free."""
    device = find_device(device_name)
    free = free_bytes(device.name)
    available = None if free is None else free + freed
    return tuple(name for name in supported_precisions(spec, device) if fits(spec, name, available, device))


@contextmanager
def reraise_out_of_memory(spec: ModelSpec, precision: Precision) -> Iterator[None]:
    """Turn an out-of-memory error in the context, as activations and other processes may cause, into a `ModelError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(_does_not_fit_message(spec, precision, spec.memory_gb[precision.name])) from error


def kv_positions(model: VisionLanguageModel) -> int:
    """The number of positions whose keys and values fit into half of the free memory, for all sequences together."""
    free = free_bytes(model.precision.device)
    if free is None:
        return DEFAULT_BATCH_SIZE * model.spec.context_tokens
    return int(free * MEMORY_SHARE) // model.decoder.kv_bytes(1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; on a CPU torch raises a plain RuntimeError."""
    messages = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in messages)


def _does_not_fit_message(
    spec: ModelSpec, precision: Precision, needed: float, free: str = "", fitting: Mapping[str, float] | None = None
) -> str:
    sizes = [f"{name} ({size:g} GB)" for name, size in (fitting or {}).items()]
    way_out = f"{' or '.join(sizes)} would fit" if sizes else "Choose a smaller model or precision, or free some memory"
    return (
        f"{spec.name} does not fit into this machine's memory: in {precision.name} its weights alone take "
        f"{needed:g} GB{free}. {way_out}."
    )
