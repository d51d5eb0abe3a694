"""Specs of hub repositories `owner/name` that are not in the catalogue, and of folders in the hub's cache.

Reads configurations and headers, from the cache if possible, but no weights. Imports huggingface_hub only when a
repository is named, since the lists of models and languages do not need it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from blip_space.catalogue.families import list_supported
from blip_space.catalogue.folder import build_spec
from blip_space.catalogue.headers import INDEX, TensorInfo, indexed_files, list_weight_files, read_headers
from blip_space.catalogue.hub_logging import SILENCED_CLIENT
from blip_space.catalogue.parsing import read_json
from blip_space.catalogue.spec import ModelSpec
from blip_space.catalogue.validation import ADAPTER_CONFIG
from blip_space.errors import ModelError

REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
CACHED = re.compile(r"models--(.+?)--(.+)")
ALTERNATIVE = "choose `tiny` or the folder of a checkpoint"
NO_FOLDER = "check its name (there is no folder of that name either), or choose `tiny`"
UNREACHABLE = ("ConnectError", "ConnectTimeout", "ConnectionRefusedError")
"""Names of connection errors: the hub's client uses another HTTP package in other versions."""


def read_repository(repository: str) -> ModelSpec:
    """The spec of a hub repository, whose small files are downloaded unless they are cached.

    Raises `ModelError` if the hub does not have it or cannot be reached, or if its model is not supported.
    """
    folder = _find_small_files(repository)
    headers = read_headers(folder) if _has_all_weights(folder) else _hub_headers(repository)
    spec = build_spec(folder, headers, name=repository, source=repository, is_folder=False)
    return spec if spec.parameters else replace(spec, parameters=_estimated_parameters(folder))


def find_snapshot(folder: Path) -> tuple[str, Path] | None:
    """The repository's name and the snapshot folder if `folder` is in the hub's cache, else None. `folder` may be a
    snapshot, or `models--owner--name`, which gives the snapshot of `main` or else the newest one."""
    if folder.parent.name == "snapshots" and (match := CACHED.fullmatch(folder.parent.parent.name)):
        return f"{match[1]}/{match[2]}", folder
    match, snapshots = CACHED.fullmatch(folder.name), folder / "snapshots"
    if not match or not snapshots.is_dir():
        return None
    main = folder / "refs" / "main"
    snapshot = snapshots / main.read_text("utf-8", "replace").strip() if main.is_file() else snapshots
    usable = [item for item in snapshots.iterdir() if (item / "config.json").is_file()]
    if snapshot not in usable and usable:
        snapshot = max(usable, key=lambda item: item.stat().st_mtime)
    return f"{match[1]}/{match[2]}", snapshot


def _find_small_files(repository: str) -> Path:
    """The snapshot folder with the configuration, downloaded unless it is cached."""
    from huggingface_hub import try_to_load_from_cache

    with SILENCED_CLIENT:
        try:
            cached = try_to_load_from_cache(repository, "config.json")
            return Path(cached).parent if isinstance(cached, str) else _download_small_files(repository)
        except ModelError:
            raise
        except Exception as error:  # the client also raises errors of its HTTP package
            message = explain_download_failure(error, repository, name=repository, alternative=NO_FOLDER)
            raise ModelError(message) from error


def _download_small_files(repository: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    # `model_info` is one request; a listing of the files is retried while the hub is down
    names = [sibling.rfilename for sibling in HfApi().model_info(repository).siblings or ()]
    if "config.json" not in names:
        raise ModelError(_missing_config_message(repository, names))
    present = [name for name in ("blip_space.json", INDEX, "config.json") if name in names]
    files = [hf_hub_download(repository, name) for name in present]
    return Path(files[-1]).parent


def _missing_config_message(repository: str, names: list[str]) -> str:
    if ADAPTER_CONFIG in names:
        return (
            f"{repository} is an adapter, not a model. Pass the model that it was trained on with --model, and "
            f"{repository} with --adapter."
        )
    return f"{repository} has no config.json, so it is not a checkpoint. Name a repository of {list_supported()}."


def _has_all_weights(folder: Path) -> bool:
    names = {file.name for file in list_weight_files(folder)}
    return "model.safetensors" in names or (bool(names) and names >= set(indexed_files(folder / INDEX)))


def _hub_headers(repository: str) -> dict[str, TensorInfo]:
    """The headers of weights that are not cached; none if they cannot be read, an error that loading explains."""
    from huggingface_hub import HfApi

    with SILENCED_CLIENT:
        try:
            files = HfApi().get_safetensors_metadata(repository).files_metadata.values()
        except Exception:  # pickles only, no connection, or a hub without range requests
            return {}
    return {
        name: TensorInfo(info.dtype, tuple(info.shape), info.data_offsets[1] - info.data_offsets[0])
        for file in files
        for name, info in file.tensors.items()
    }


def _estimated_parameters(folder: Path) -> int:
    """The number of parameters, estimated from the total size in the weight index; 0 if there is none."""
    metadata = read_json(folder / INDEX, name=folder.name).get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, Mapping) else None
    config = read_json(folder / "config.json", name=folder.name)
    is_half = str(config.get("dtype") or config.get("torch_dtype")) in ("float16", "bfloat16")
    return int(size) // (2 if is_half else 4) if isinstance(size, int | float) else 0


def explain_download_failure(error: Exception, source: str, *, name: str, alternative: str = ALTERNATIVE) -> str:
    """The error message for a failed download of the repository `source`, which users know as `name`. `alternative` is
    a way out, in the imperative, other than correcting the cause."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{source} is a gated repository. Accept its terms on the hub and run `hf auth login`, or {alternative}."
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.HFValidationError):
        return (
            f"The hub has no {source} that you may read (or not in that revision). If it is private, run "
            f"`hf auth login`; else {alternative}."
        )
    is_unreachable = isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled)
    if is_unreachable or type(error).__name__ in UNREACHABLE:
        return (
            f"{name} is not on this machine, or is incomplete, and the hub cannot be reached. Connect and start "
            f"again, or {alternative}."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"A required file is missing from {source} on the hub. Check its name, or {alternative}."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full, so {name} cannot be downloaded. Free some space and start again."
    return f"The download of {name} was interrupted. Start again; complete files are kept."
