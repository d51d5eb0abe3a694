"""A model of the hub that is no row of the catalogue, by its name `owner/name`, and folders of the hub's cache.

Reads configurations and headers, never weights; what lies in the cache is taken from there. huggingface_hub is imported
only when a repository is named, since the lists of models and languages are shown without it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from blip_space.catalogue.families import list_supported
from blip_space.catalogue.folder import build_spec
from blip_space.catalogue.headers import INDEX, TensorInfo, indexed_files, list_weight_files, read_headers
from blip_space.catalogue.parsing import read_json
from blip_space.catalogue.spec import ModelSpec
from blip_space.catalogue.validation import ADAPTER_CONFIG
from blip_space.errors import ModelError

REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
CACHED = re.compile(r"models--(.+?)--(.+)")
INSTEAD = "choose `tiny` or the folder of a checkpoint"
NO_FOLDER = "check its name (there is no folder that is called so either), or choose `tiny`"
UNREACHABLE = ("ConnectError", "ConnectTimeout", "ConnectionRefusedError")
"""Of the client's transport, whose package differs by version."""


def read_repository(repository: str) -> ModelSpec:
    """The spec of a repository of the hub; small files are downloaded where they are not in the cache.

    Raises `ModelError` when the hub does not have it or cannot be reached, or it holds no model of
    a family that is read here.
    """
    folder = _small_files(repository)
    headers = read_headers(folder) if _has_all_weights(folder) else _hub_headers(repository)
    spec = build_spec(folder, headers, name=repository, source=repository, is_folder=False)
    return spec if spec.parameters else replace(spec, parameters=_estimated_parameters(folder))


def find_snapshot(folder: Path) -> tuple[str, Path] | None:
    """The repository's name and the snapshot where `folder` is one of the hub's cache: `models--owner--name`, of which
    `main` is taken, or else the newest, or a snapshot in it."""
    if folder.parent.name == "snapshots" and (match := CACHED.fullmatch(folder.parent.parent.name)):
        return f"{match[1]}/{match[2]}", folder
    match, snapshots = CACHED.fullmatch(folder.name), folder / "snapshots"
    if not match or not snapshots.is_dir():
        return None
    main = folder / "refs" / "main"
    named = snapshots / main.read_text("utf-8", "replace").strip() if main.is_file() else snapshots
    held = [item for item in snapshots.iterdir() if (item / "config.json").is_file()]
    if named not in held and held:
        named = max(held, key=lambda item: item.stat().st_mtime)
    return f"{match[1]}/{match[2]}", named


def read_snapshot(repository: str, folder: Path) -> ModelSpec:
    """The spec of a repository's snapshot that was named by its path."""
    return build_spec(folder, read_headers(folder), name=repository, source=str(folder), is_folder=True)


def _small_files(repository: str) -> Path:
    """The snapshot folder with the configuration."""
    from huggingface_hub import try_to_load_from_cache

    with _silent():
        try:
            cached = try_to_load_from_cache(repository, "config.json", cache_dir=_cache())
            return Path(cached).parent if isinstance(cached, str) else _download(repository)
        except ModelError:
            raise
        except Exception as error:  # the client lets those of its transport through, and their package differs
            raise ModelError(explain_download_failure(error, repository, name=repository, instead=NO_FOLDER)) from error


def _download(repository: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    # its answer comes in one piece, where the list of files would be asked for again and again while the hub is down
    names = [row.rfilename for row in HfApi().model_info(repository).siblings or ()]
    if "config.json" not in names:
        raise ModelError(_without_config(repository, names))
    wanted = [name for name in ("blip_space.json", INDEX, "config.json") if name in names]
    files = [hf_hub_download(repository, name, cache_dir=_cache()) for name in wanted]
    return Path(files[-1]).parent


def _without_config(repository: str, names: list[str]) -> str:
    if ADAPTER_CONFIG in names:
        return (
            f"{repository} is an adapter, not a model. Name the model that it was trained on with --model, and "
            f"{repository} with --adapter."
        )
    return f"{repository} has no config.json, so it is no checkpoint. Name a repository that holds {list_supported()}."


def _has_all_weights(folder: Path) -> bool:
    here = {file.name for file in list_weight_files(folder)}
    return "model.safetensors" in here or (bool(here) and here >= set(indexed_files(folder / INDEX)))


def _hub_headers(repository: str) -> dict[str, TensorInfo]:
    """The headers of weights that are not here yet; none where the hub does not tell, and loading says why."""
    from huggingface_hub import HfApi

    with _silent():
        try:
            files = HfApi().get_safetensors_metadata(repository).files_metadata.values()
        except Exception:  # pickles only, no connection, or a hub without ranges
            return {}
    return {
        name: TensorInfo(row.dtype, tuple(row.shape), row.data_offsets[1] - row.data_offsets[0])
        for file in files
        for name, row in file.tensors.items()
    }


def _estimated_parameters(folder: Path) -> int:
    """By the size that the weights' index names; 0 where there is none."""
    metadata = read_json(folder / INDEX, name=folder.name).get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, Mapping) else None
    config = read_json(folder / "config.json", name=folder.name)
    is_half = str(config.get("dtype") or config.get("torch_dtype")) in ("float16", "bfloat16")
    return int(size) // (2 if is_half else 4) if isinstance(size, int | float) else 0


def explain_download_failure(error: Exception, source: str, *, name: str, instead: str = INSTEAD) -> str:
    """Why the repository `source` could not be had, in a sentence that names the way out.

    `name` is what it is called here, and `instead` what else can be done.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{source} is given only to those who accepted its terms. Accept them on the hub and run "
            f"`hf auth login`, or {instead}."
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.HFValidationError):
        return (
            f"The hub has no {source} that you may read (or not in that revision). If it is private, run "
            f"`hf auth login`; else {instead}."
        )
    is_unreachable = isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled)
    if is_unreachable or type(error).__name__ in UNREACHABLE:
        return (
            f"{name} is not on this machine, or not all of it, and the hub cannot be reached. Connect and start "
            f"again, or {instead}."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"The hub's {source} lacks a file that is needed. Check its name, or {instead}."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full, so {name} cannot be downloaded. Make room and start again."
    return f"The download of {name} broke off. Start again; the files that arrived whole are kept."


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


@contextmanager
def _silent() -> Iterator[None]:
    """Inside, the hub's client logs errors only and draws no bars."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    before, had_no_bars = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if not had_no_bars:
            enable_progress_bars()
