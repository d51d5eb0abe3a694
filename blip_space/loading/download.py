"""Where a model's files are, and whether all of them are there.

A folder is taken as it is; a repository of the hub comes through the hub's cache, so it is downloaded once and found
again offline. Knows names, sizes and headers of files; reads no weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.headers import INDEX, indexed_files, is_complete
from blip_space.catalogue.hub import explain_download_failure
from blip_space.catalogue.validation import explain_pickle
from blip_space.errors import ModelError
from blip_space.loading.library_logging import silenced
from blip_space.loading.progress import OnProgress, download_progress_bar, ignore_progress
from blip_space.models.tokenizer import has_tokenizer

SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model"]
SAFETENSORS = ["model.safetensors", "model-*-of-*.safetensors"]
PICKLES = ["pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"]
TRAINERS_PICKLES = ["*.pth", "*.pt", "*.ckpt", "*.bin"]

AGAIN = "Download the checkpoint again"


def download_checkpoint(spec: ModelSpec, *, on_progress: OnProgress = ignore_progress) -> Path:
    """The folder that holds the model's files, downloaded first where that is needed.

    Raises `ModelError` when the hub does not have it, does not give it or cannot be reached, or the disk has no room.
    """
    if spec.is_folder:
        return Path(spec.source)
    wanted: dict[str, Any] = {"revision": spec.revision, "allow_patterns": [*SMALL_FILES, *SAFETENSORS]}
    try:
        with silenced():
            here, total = _check_disk(spec, wanted)
            bar = download_progress_bar(on_progress, here=here, total=total)
            folder = Path(snapshot_download(spec.source, **wanted, tqdm_class=bar))
        if not total and not any(folder.glob("*.safetensors")):  # a configuration alone, and the hub said nothing
            raise LocalEntryNotFoundError("no weights in the cache")
        return folder
    except ModelError:
        raise
    except Exception as error:  # the client lets those of its transport through, and their package differs by version
        raise ModelError(explain_download_failure(error, spec.source, name=spec.name)) from error


def download_small_files(spec: ModelSpec) -> Path:
    """The folder that holds the model's configuration and tokenizer, downloaded first where that is needed.

    Raises `ModelError` as `locate` does.
    """
    if spec.is_folder:
        return Path(spec.source)
    wanted: dict[str, Any] = {"revision": spec.revision, "allow_patterns": SMALL_FILES}
    try:
        with silenced():
            _, total = _check_disk(spec, wanted)
            bar = download_progress_bar(ignore_progress, here=0, total=total)
            folder = Path(snapshot_download(spec.source, **wanted, tqdm_class=bar))
        if not total and not has_tokenizer(folder):  # a configuration alone, and the hub said nothing
            raise LocalEntryNotFoundError("no tokenizer in the cache")
        return folder
    except ModelError:
        raise
    except Exception as error:  # as above
        raise ModelError(explain_download_failure(error, spec.source, name=spec.name)) from error


def find_weight_files(folder: Path, *, name: str) -> list[Path]:
    """The files that hold the weights, each one there and whole; `ModelError`, which calls the model `name`, if not."""
    single, index = folder / "model.safetensors", folder / INDEX
    if single.is_file() or index.is_file():
        files = [single] if single.is_file() else _shards(index, name=name)
        for file in files:
            if not is_complete(file):
                raise ModelError(f"{file.name} of {name} is damaged or only half downloaded. {AGAIN}.")
        return files
    if _half_downloaded(folder):
        raise ModelError(f"The download of {name} broke off before its weights were there. {AGAIN}.")
    if any(path for pattern in PICKLES for path in folder.glob(pattern)):
        raise ModelError(
            f"{name} has its weights as a pickle (pytorch_model.bin), which may run code when it is opened, so it is "
            "not. Choose a revision with model.safetensors, or convert it: load it with transformers where you trust "
            "it, and save it again."
        )
    if pickle := next((path for pattern in TRAINERS_PICKLES for path in sorted(folder.glob(pattern))), None):
        raise explain_pickle(pickle.name, name)
    if any(folder.glob("*.gguf")):
        raise ModelError(
            f"{name} has its weights as GGUF, which llama.cpp reads and this program does not. Choose the original "
            "checkpoint, with --precision int8 or int4 where memory is short."
        )
    raise ModelError(
        f"{name} has no weights that are read here (model.safetensors; a pickle may run code). {AGAIN}, or choose a "
        "revision that has them."
    )


def _check_disk(spec: ModelSpec, wanted: dict[str, Any]) -> tuple[int, int]:
    """How many bytes are on this machine, and how many there are in all; `ModelError` where the rest has no room."""
    try:
        plan: Any = snapshot_download(spec.source, **wanted, dry_run=True)
    except Exception:  # the download itself tells what is wrong, or finds everything here
        return 0, 0
    total = sum(file.file_size or 0 for file in plan)
    missing = sum(file.file_size or 0 for file in plan if file.will_download)
    place = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(part for part in (place, *place.parents) if part.exists())).free
    if missing > free:
        raise ModelError(
            f"{spec.name} does not fit on the disk: {missing / 1e9:.1f} GB are to be downloaded, and "
            f"{free / 1e9:.1f} GB are free where the hub's files are kept. Make room, or set HF_HOME to another disk."
        )
    return total - missing, total


def _shards(index: Path, *, name: str) -> list[Path]:
    files = [index.with_name(shard) for shard in indexed_files(index)]
    if not files:
        raise ModelError(f"{index.name} of {name} cannot be read, or names no files. {AGAIN}.")
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{name} lacks {missing[0]}, one of the {len(files)} files of its weights. Copy it into the folder, or "
            "download the checkpoint again."
        )
    return files


def _half_downloaded(folder: Path) -> bool:
    return any(folder.rglob("*.incomplete"))
