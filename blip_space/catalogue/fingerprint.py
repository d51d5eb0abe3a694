"""What tells two models apart that are called the same: a digest of what decides their words.

Depends on files, their headers and a few of their bytes; must not import torch, and downloads nothing.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blip_space.catalogue.spec import ModelSpec

WHOLE_BYTES = 64_000_000
"""A file of weights up to that size is read whole, a larger one a little of each tensor."""

SAMPLE_BYTES = 64
MAX_HEADER_BYTES = 100_000_000
MAX_SETTINGS_BYTES = 1_000_000
LETTERS = 32

DECIDING = frozenset({
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "spiece.model", "vocab.json", "merges.txt",
    "blip_space.json", "model.safetensors.index.json", "adapter_config.json", "chat_template.jinja",
    "chat_template.json",
})  # fmt: skip
"""The small files that decide what a model writes."""

PASSING = frozenset({
    "transformers_version", "_name_or_path", "base_model_name_or_path", "peft_version", "name", "knows", "unknown",
})  # fmt: skip
"""What they say of where, by what and for whom the model was saved."""


def fingerprint(spec: ModelSpec) -> str:
    """A digest of the model and the adapter on it, `LETTERS` hexadecimal letters.

    The same for a copied or moved folder, another for other weights of the same shapes. For a model of the hub it is
    that of its name and revision, whether it was downloaded or not.
    """
    parts = [_digest(_of_model(Path(spec.source))) if spec.is_folder else f"hub {spec.source} {spec.revision or ''}"]
    if spec.adapter:
        files = _of_adapter(spec.adapter)
        parts.append(_digest(files) if files else f"hub {spec.adapter}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:LETTERS]


def _of_model(folder: Path) -> list[Path]:
    """An adapter's files beside the weights are never put on unasked, so they decide nothing."""
    return [path for path in folder.glob("*") if _decides(path) and not path.name.startswith("adapter_")]


def _of_adapter(chosen: str) -> list[Path]:
    """In the folder or else in one of its own, as a trainer leaves it; none where it is of the hub."""
    try:
        folder = Path(chosen.strip()).expanduser()
        found = list(folder.glob("adapter_*")) or list(folder.glob("*/adapter_*"))
    except (OSError, RuntimeError, ValueError):  # what no folder can be called, which loading tells
        return []
    return [path for path in found if _decides(path)]


def _decides(path: Path) -> bool:
    return path.name in DECIDING or path.suffix == ".safetensors"


def _digest(files: list[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(path.name.encode("utf-8", "backslashreplace") + b"\0")
        for chunk in _content(path):
            found.update(chunk)
    return found.hexdigest()


def _content(path: Path) -> Iterator[bytes]:
    try:
        size = path.stat().st_size
        if path.suffix == ".safetensors" and size > WHOLE_BYTES:
            yield from _samples(path)
        elif path.suffix == ".json" and size < MAX_SETTINGS_BYTES:
            yield _settings(path.read_bytes())
        else:
            yield path.read_bytes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        yield b"unreadable"  # which loading tells


def _settings(content: bytes) -> bytes:
    settings = json.loads(content)
    if not isinstance(settings, dict):
        return content
    return json.dumps({key: value for key, value in settings.items() if key not in PASSING}, sort_keys=True).encode()


def _samples(path: Path) -> Iterator[bytes]:
    """The header, and bytes from the beginning and the middle of every tensor, which training changes everywhere.

    Source of the layout: https://huggingface.co/docs/safetensors.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = file.read(min(length, MAX_HEADER_BYTES))
        yield header
        for begin, end in sorted(_offsets(json.loads(header))):
            for place in (begin, (begin + end) // 2):
                file.seek(8 + length + place)
                yield file.read(min(SAMPLE_BYTES, end - place))


def _offsets(header: dict[str, Any]) -> Iterator[tuple[int, int]]:
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            yield int(begin), int(end)
