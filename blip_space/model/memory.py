"""Is there room for the weights, and what is said when there is not?

A model that does not fit must be refused before it is read: Linux grants the memory, and kills the whole process, page
included, once it is used. Knows bytes and devices; knows nothing of what a checkpoint holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.model.precision import Precision

MEMINFO = Path("/proc/meminfo")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def free_bytes(device: str) -> int | None:
    """What may still be used on the device, or None where the system does not say."""
    if device != "cpu":
        return int(torch.cuda.mem_get_info()[0])
    known = [amount for amount in (_available(), _container_limit()) if amount is not None]
    return min(known, default=None)


def check_room(spec: ModelSpec, precision: Precision, *, free: int | None) -> None:
    """Raise `ModelError` when the weights alone need more than is free."""
    if free is not None and spec.memory_gb[precision.name] > free / 1e9:
        raise ModelError(_told(spec, precision, f", and {free / 1e9:.1f} GB are free"))


@contextmanager
def enough_memory(spec: ModelSpec, precision: Precision) -> Iterator[None]:
    """Tells in a sentence when memory runs out inside, which activations and a neighbour can still bring about."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        raise ModelError(_told(spec, precision, "")) from error


def row_bytes(config: Any, *, positions: int, size: int) -> int:
    """What the keys and values of one row take with so many positions, each number `size` bytes.

    An encoder-decoder keeps two sets: of what the decoder wrote, and of what the encoder read.
    """
    if config.is_encoder_decoder:
        layers, width, sets = config.num_decoder_layers, config.num_heads * config.d_kv, 2
    else:
        layers, width, sets = config.num_hidden_layers, config.hidden_size, 1
    return int(2 * sets * layers * width * positions * size)


def ran_out(error: BaseException) -> bool:
    """Whether this is an allocation that failed; on a CPU torch raises a plain RuntimeError."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _told(spec: ModelSpec, precision: Precision, free: str) -> str:
    return (
        f"{spec.name} does not fit into this machine's memory: in {precision.name} its weights alone take "
        f"{spec.memory_gb[precision.name]:g} GB{free}. Choose a smaller model or precision, or free some memory."
    )


def _available() -> int | None:
    rows = re.findall(r"^(?:MemAvailable|SwapFree):\s+(\d+) kB", _text(MEMINFO), re.MULTILINE)
    return sum(int(row) * 1024 for row in rows) if rows else None


def _container_limit() -> int | None:
    limit = _text(CONTAINER_LIMIT).strip()
    return int(limit) if limit.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:  # another system, or a sandbox
        return ""
