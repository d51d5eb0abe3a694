"""The headers of safetensors files: names, types and sizes of tensors, without reading the tensors.

Depends on the format only: https://huggingface.co/docs/safetensors (8 bytes of length, then JSON, then the tensors). An
invalid header is treated as if the file had no tensors.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor: its type by the format's name (F32, BF16, I8, …), its shape and its size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def count(self) -> int:
        """The number of stored elements; a packed 4-bit weight has half as many as unpacked."""
        return math.prod(self.shape)


def list_weight_files(folder: Path) -> list[Path]:
    """The weight files that a checkpoint's folder has, except those of an adapter."""
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    files = [folder / name for name in indexed_files(folder / INDEX)] or folder.glob("model-*-of-*.safetensors")
    return sorted(file for file in files if file.is_file())


def indexed_files(index: Path) -> list[str]:
    """The names of the files that a weight index lists; an empty list if it cannot be read."""
    try:
        listed = json.loads(index.read_text("utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return []
    return sorted({Path(str(name)).name for name in listed})


def read_headers(folder: Path) -> dict[str, TensorInfo]:
    """The tensors of all weight files of a checkpoint, by name."""
    return {name: tensor for file in list_weight_files(folder) for name, tensor in read_header(file).items()}


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one file by name; none if it cannot be read or is not safetensors."""
    _, entries = _read_entries(path)
    tensors = {name: _parse_tensor(entry) for name, entry in entries.items() if name != "__metadata__"}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def is_complete(path: Path) -> bool:
    """Whether the file has the length that its header implies."""
    length, entries = _read_entries(path)
    tensors = [entry for name, entry in entries.items() if name != "__metadata__"]
    if not entries or any(_parse_tensor(entry) is None for entry in tensors):
        return False
    return bool(path.stat().st_size == 8 + length + max((entry["data_offsets"][1] for entry in tensors), default=0))


def read_raw_header(file: BinaryIO) -> tuple[int, bytes]:
    """The length of the header in bytes, and its JSON text, cut off after `MAX_HEADER_BYTES`."""
    (length,) = struct.unpack("<Q", file.read(8))
    return length, file.read(min(length, MAX_HEADER_BYTES))


def _read_entries(path: Path) -> tuple[int, dict[str, Any]]:
    """The length of a file's header, and its entries; (0, {}) if the header is invalid."""
    try:
        with path.open("rb") as file:
            length, content = read_raw_header(file)
        entries = json.loads(content)
    except (OSError, ValueError, struct.error, RecursionError):
        return 0, {}
    return length, entries if isinstance(entries, dict) else {}


def _parse_tensor(entry: Any) -> TensorInfo | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return None
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        return None
    return TensorInfo(entry["dtype"], tuple(shape), offsets[1] - offsets[0])


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(isinstance(item, int) and item >= 0 for item in value)
