"""Where a model's files are, and whether all of them are there.

A folder is taken as it is; a repository of the hub comes through the hub's cache, so it is downloaded once and found
again offline. Knows names, sizes and headers of files; reads no weights.
"""

from __future__ import annotations

import errno
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.model.quiet import quiet

SMALL_FILES = ["*.json", "*.txt", "*.model"]
SAFETENSORS = ["model.safetensors", "model-*-of-*.safetensors"]
PICKLES = ["pytorch_model.bin", "pytorch_model-*-of-*.bin"]

AGAIN = "Download the checkpoint again"


def locate(spec: ModelSpec) -> Path:
    """The folder that holds the model's files, downloaded first where that is needed.

    Raises `ModelError` when the hub does not have it, does not give it or cannot be reached.
    """
    if spec.is_folder:
        return Path(spec.source)
    folder = _fetch(spec, [*SMALL_FILES, *SAFETENSORS])
    # the same weights often lie there a second time as pickles; those are fetched only when there is nothing better
    return folder if any(folder.glob("*.safetensors")) else _fetch(spec, [*SMALL_FILES, *PICKLES])


def find_weights(folder: Path, *, name: str) -> list[Path]:
    """The files that hold the weights, each one there and whole; `ModelError`, which calls the model `name`, if not."""
    for stem, ending in (("model", "safetensors"), ("pytorch_model", "bin")):
        single, index = folder / f"{stem}.{ending}", folder / f"{stem}.{ending}.index.json"
        if not (single.is_file() or index.is_file()):
            continue
        files = [single] if single.is_file() else _shards(index, name=name)
        for file in files:
            _check_whole(file, name=name)
        return files
    if _half_downloaded(folder):
        raise ModelError(f"The download of {name} broke off before its weights were there. {AGAIN}.")
    raise ModelError(f"{name} has no weights (model.safetensors or pytorch_model.bin). {AGAIN}.")


def _fetch(spec: ModelSpec, patterns: list[str]) -> Path:
    try:
        with quiet():
            return Path(snapshot_download(spec.source, revision=spec.revision, allow_patterns=patterns))
    except Exception as error:  # the client lets those of its transport through, and their package differs by version
        raise ModelError(_told(error, spec)) from error


def _told(error: Exception, spec: ModelSpec) -> str:
    if isinstance(error, GatedRepoError):
        return (
            f"{spec.source} is given only to those who accepted its terms. Accept them on the hub and run "
            "`hf auth login`, or choose another model."
        )
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return (
            f"The hub has no {spec.source} that you may read (or not in that revision). If it is private, run "
            "`hf auth login`; else choose another model."
        )
    if isinstance(error, LocalEntryNotFoundError):
        return (
            f"{spec.name} is not on this machine, or not all of it, and the hub cannot be reached. Connect and start "
            "again, or choose `tiny` or the folder of a checkpoint."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full, so {spec.name} cannot be downloaded. Make room and start again."
    return f"The download of {spec.name} broke off. Start again; what has already arrived is kept."


def _shards(index: Path, *, name: str) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index.name} of {name} cannot be read. {AGAIN}.") from error
    files = [index.with_name(Path(shard).name) for shard in names]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{name} lacks {missing[0]}, one of the {len(files)} files of its weights. Copy it into the folder, or "
            "download the checkpoint again."
        )
    return files


def _check_whole(file: Path, *, name: str) -> None:
    whole = _safetensors_whole if file.suffix == ".safetensors" else _pickle_whole
    if not whole(file):
        raise ModelError(f"{file.name} of {name} is damaged or only half downloaded. {AGAIN}.")


def _safetensors_whole(file: Path) -> bool:
    """Whether the file is as long as its header says: https://huggingface.co/docs/safetensors."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header: dict[str, Any] = json.loads(opened.read(min(length, 100_000_000)))
        ends = (row["data_offsets"][1] for key, row in header.items() if key != "__metadata__")
        return file.stat().st_size == 8 + int(length) + max(ends, default=0)
    except (OSError, ValueError, struct.error, KeyError, AttributeError, TypeError):
        return False


def _pickle_whole(file: Path) -> bool:
    """A zip has its list of contents at its end. Files from before 2020 are no zips, and tell nothing."""
    with file.open("rb") as opened:
        start = opened.read(2)
    return zipfile.is_zipfile(file) if start == b"PK" else bool(start)


def _half_downloaded(folder: Path) -> bool:
    return any(folder.rglob("*.incomplete"))
