"""Downloads a model's files, and checks that they are complete.

A folder is used directly; a hub repository is downloaded once to the hub's cache, and found there without a connection.
Depends on names, sizes and headers of files; reads no weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
from blip_space.settings import find_missing_proxy_package

SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model"]
SAFETENSORS = ["model.safetensors", "model-*-of-*.safetensors", "photo_*.safetensors"]
PICKLES = ["pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"]
TRAINER_PICKLES = ["*.pth", "*.pt", "*.ckpt", "*.bin"]

DOWNLOAD_AGAIN = "Download the checkpoint again"


def download_checkpoint(spec: ModelSpec, *, on_progress: OnProgress = ignore_progress) -> Path:
    """The folder with the model's files, which are downloaded unless they are cached.

    Raises `ModelError` if the hub does not have them, denies access or cannot be reached, or if the disk is full.
    """
    return _download(spec, [*SMALL_FILES, *SAFETENSORS], on_progress, lambda folder: any(folder.glob("*.safetensors")))


def download_small_files(spec: ModelSpec) -> Path:
    """The folder with the model's configuration and tokenizer; see `download_checkpoint`."""
    return _download(spec, SMALL_FILES, ignore_progress, has_tokenizer)


def _download(spec: ModelSpec, patterns: list[str], on_progress: OnProgress, is_usable: Callable[[Path], bool]) -> Path:
    if spec.is_folder:
        return Path(spec.source)
    selection: dict[str, Any] = {"revision": spec.revision, "allow_patterns": patterns}
    try:
        with silenced():
            cached, total = _check_disk(spec, selection)
            bar = download_progress_bar(on_progress, cached_bytes=cached, total_bytes=total)
            folder = Path(snapshot_download(spec.source, **selection, tqdm_class=bar))
        if not total and not is_usable(folder):  # there is no connection, and only the configuration is cached
            raise LocalEntryNotFoundError("the cache lacks required files")
        return folder
    except ModelError:
        raise
    except Exception as error:  # the client also raises errors of its HTTP package
        failure = find_missing_proxy_package() or explain_download_failure(error, spec.source, name=spec.name)
        raise ModelError(failure) from error


def find_weight_files(folder: Path, *, name: str) -> list[Path]:
    """The weight files of the model `name`. Raises `ModelError` if one is missing or incomplete."""
    single, index = folder / "model.safetensors", folder / INDEX
    if single.is_file() or index.is_file():
        files = [single] if single.is_file() else _shards(index, name=name)
        for file in files:
            if not is_complete(file):
                raise ModelError(f"{file.name} of {name} is damaged or incomplete. {DOWNLOAD_AGAIN}.")
        return files
    if any(folder.rglob("*.incomplete")):
        raise ModelError(f"The download of {name} was interrupted before its weights were complete. {DOWNLOAD_AGAIN}.")
    if any(path for pattern in PICKLES for path in folder.glob(pattern)):
        raise ModelError(
            f"{name} has its weights as a pickle (pytorch_model.bin), which may run code when it is opened, so it is "
            "not supported. Choose a revision with model.safetensors, or, if you trust it, load it with transformers "
            "and save it again."
        )
    if pickle := next((path for pattern in TRAINER_PICKLES for path in sorted(folder.glob(pattern))), None):
        raise explain_pickle(pickle.name, name)
    if any(folder.glob("*.gguf")):
        raise ModelError(
            f"{name} has its weights as GGUF, which only llama.cpp supports. Choose the original "
            "checkpoint, with --precision int8 or int4 if memory is short."
        )
    raise ModelError(
        f"{name} has no supported weights (model.safetensors; a pickle may run code). {DOWNLOAD_AGAIN}, or choose "
        "a revision that has them."
    )


def _check_disk(spec: ModelSpec, selection: dict[str, Any]) -> tuple[int, int]:
    """The cached and the total bytes of the selected files. Raises `ModelError` if the rest exceeds the free space."""
    try:
        plan: Any = snapshot_download(spec.source, **selection, dry_run=True)
    except Exception:  # the download itself reports the error, or finds all files cached
        return 0, 0
    total = sum(file.file_size or 0 for file in plan)
    missing = sum(file.file_size or 0 for file in plan if file.will_download)
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(path for path in (cache, *cache.parents) if path.exists())).free
    if missing > free:
        raise ModelError(
            f"Not enough disk space for {spec.name}: {missing / 1e9:.1f} GB still have to be downloaded, and "
            f"{free / 1e9:.1f} GB are free in the Hugging Face cache. Free some space, or set HF_HOME to another disk."
        )
    return total - missing, total


def _shards(index: Path, *, name: str) -> list[Path]:
    files = [index.with_name(shard) for shard in indexed_files(index)]
    if not files:
        raise ModelError(f"{index.name} of {name} cannot be read, or lists no files. {DOWNLOAD_AGAIN}.")
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{name} lacks {missing[0]}, one of the {len(files)} files of its weights. Copy it into the folder, or "
            "download the checkpoint again."
        )
    return files
