"""A digest of everything that decides a model's output, to distinguish models that have the same name.

Depends on files, their headers and samples of their bytes. Must not import torch or download anything.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path

from blip_space.catalogue.headers import read_raw_header
from blip_space.catalogue.spec import ModelSpec

MAX_FULL_READ_BYTES = 64_000_000
"""Weight files up to this size are read completely; of larger files, a sample of each tensor is read."""

SAMPLE_BYTES = 64
MAX_SETTINGS_BYTES = 1_000_000
HEX_DIGITS = 32

DIGESTED_FILES = frozenset({
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "spiece.model", "vocab.json", "merges.txt",
    "blip_space.json", "photo_encoder.json", "model.safetensors.index.json", "adapter_config.json",
    "chat_template.jinja", "chat_template.json",
})  # fmt: skip
"""The small files that decide what a model generates."""

IGNORED_SETTINGS = frozenset({
    "transformers_version", "_name_or_path", "base_model_name_or_path", "peft_version", "name", "knows", "unknown",
    "knows_photographs", "photo_encoder",
})  # fmt: skip
"""Settings in these files that do not decide it: where and how a model was saved, and texts about it."""


def fingerprint(spec: ModelSpec) -> str:
    """A digest of the model and its adapter, with `HEX_DIGITS` hexadecimal digits.

    A copied or moved folder has the same digest; other weights of the same shapes have another one. For a model of the
    hub the digest depends on the repository's name and revision only.
    """
    parts = [_digest(_model_files(Path(spec.source))) if spec.is_folder else f"hub {spec.source} {spec.revision or ''}"]
    if spec.photo_encoder:
        parts.append("with its photo encoder")
    if spec.adapter:
        files = _adapter_files(spec.adapter)
        parts.append(_digest(files) if files else f"hub {spec.adapter}")
    return hashlib.sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:HEX_DIGITS]


def _model_files(folder: Path) -> list[Path]:
    """The model's files that count. An adapter in the same folder does not, since it is applied only if requested."""
    return [path for path in folder.glob("*") if _is_digested(path) and not path.name.startswith("adapter_")]


def _adapter_files(adapter: str) -> list[Path]:
    """The adapter's files that count, in its folder or a direct subfolder; none if it is a hub repository."""
    try:
        folder = Path(adapter.strip()).expanduser()
        paths = list(folder.glob("adapter_*")) or list(folder.glob("*/adapter_*"))
    except (OSError, RuntimeError, ValueError):  # an invalid folder name, which loading reports
        return []
    return [path for path in paths if _is_digested(path)]


def _is_digested(path: Path) -> bool:
    return path.name in DIGESTED_FILES or path.suffix == ".safetensors"


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode("utf-8", "backslashreplace") + b"\0")
        for chunk in _chunks(path):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        size = path.stat().st_size
        if path.suffix == ".safetensors" and size > MAX_FULL_READ_BYTES:
            yield from _tensor_samples(path)
        elif path.suffix == ".json" and size < MAX_SETTINGS_BYTES:
            yield _relevant_settings(path.read_bytes())
        else:
            yield path.read_bytes()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        yield b"unreadable"  # loading reports the error


def _relevant_settings(content: bytes) -> bytes:
    settings = json.loads(content)
    if not isinstance(settings, dict):
        return content
    relevant = {key: value for key, value in settings.items() if key not in IGNORED_SETTINGS}
    return json.dumps(relevant, sort_keys=True).encode()


def _tensor_samples(path: Path) -> Iterator[bytes]:
    """Yields the header, and bytes from the beginning and the middle of every tensor, since training changes them all.

    Source of the layout: https://huggingface.co/docs/safetensors.
    """
    with path.open("rb") as file:
        length, header = read_raw_header(file)
        yield header
        tensors = [tensor for name, tensor in json.loads(header).items() if name != "__metadata__"]
        for begin, end in sorted(tensor["data_offsets"] for tensor in tensors):
            for offset in (begin, (begin + end) // 2):
                file.seek(8 + length + offset)
                yield file.read(min(SAMPLE_BYTES, end - offset))
