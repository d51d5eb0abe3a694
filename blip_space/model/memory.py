"""Is there room for the weights, and what is said when there is not?

A model that does not fit must be refused before it is read: Linux grants the memory, and kills the whole process, page
included, once it is used. Knows bytes and devices; knows nothing of what a checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.model.device import find_device, free_bytes
from blip_space.model.precision import Precision, fits, offered


def check_room(spec: ModelSpec, precision: Precision, *, free: int | None) -> None:
    """Raise `ModelError` when the weights alone need more than is free; it says what would fit."""
    if free is not None and not fits(spec, precision.name, free):
        fitting = [name for name in spec.precisions if fits(spec, name, free)]
        raise ModelError(_told(spec, precision, f", and {free / 1e9:.1f} GB are free", fitting))


def fitting(spec: ModelSpec, *, freed: int = 0) -> tuple[str, ...]:
    """The precisions in which the weights fit this machine now; `freed` bytes are given back first."""
    device = find_device()
    free = free_bytes(device.name)
    return tuple(name for name in offered(spec, device) if fits(spec, name, None if free is None else free + freed))


@contextmanager
def enough_memory(spec: ModelSpec, precision: Precision) -> Iterator[None]:
    """Tells in a sentence when memory runs out inside, which activations and a neighbour can still bring about."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(_told(spec, precision, "")) from error


def kv_bytes_per_sequence(config: Any, *, positions: int, size: int) -> int:
    """What the keys and values of one sequence take with so many positions, each number `size` bytes.

    An encoder-decoder keeps two sets: of what the decoder wrote, and of what the encoder read.
    """
    if config.is_encoder_decoder:
        layers, width, sets = config.num_decoder_layers, config.num_heads * config.d_kv, 2
    else:
        layers, width, sets = config.num_hidden_layers, config.hidden_size, 1
    return int(2 * sets * layers * width * positions * size)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocation that failed; on a CPU torch raises a plain RuntimeError."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _told(spec: ModelSpec, precision: Precision, free: str, fitting: Sequence[str] = ()) -> str:
    sizes = [f"{name} ({spec.memory_gb[name]:g} GB)" for name in fitting]
    way_out = f"{' or '.join(sizes)} would fit" if sizes else "Choose a smaller model or precision, or free some memory"
    return (
        f"{spec.name} does not fit into this machine's memory: in {precision.name} its weights alone take "
        f"{spec.memory_gb[precision.name]:g} GB{free}. {way_out}."
    )
