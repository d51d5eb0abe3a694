"""Finds the files of an adapter: in its folder, in the only adapter folder of a trainer's output, or in a repository.

Depends on the files that peft saves, `adapter_config.json` and `adapter_model.safetensors`; reads no weights.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from blip_space.catalogue.hub import REPOSITORY, explain_download_failure
from blip_space.catalogue.parsing import find_path, read_json
from blip_space.catalogue.validation import ADAPTER_CONFIG as CONFIG
from blip_space.catalogue.validation import base_model_name
from blip_space.errors import ModelError
from blip_space.loading.library_logging import silenced
from blip_space.loading.progress import download_progress_bar, ignore_progress

log = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"
MAX_LISTED = 5


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter: its folder, its name in error messages, its configuration and the names of its weights (`keys`)."""

    folder: Path
    name: str
    config: dict[str, Any]
    keys: tuple[str, ...]

    @property
    def base_model(self) -> str:
        """The model that the adapter was trained on, according to its configuration; may be empty."""
        return base_model_name(self.config)


def find_adapter(source: str) -> AdapterFiles:
    """The adapter in `source`: a folder, or a repository `owner/name`, which is downloaded unless it is cached.

    Raises `ModelError` if there is no adapter, or if it is incomplete or unreadable.
    """
    folder, name = _find_folder(source.strip())
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"The adapter {name!r} has no {WEIGHTS}; pickled weights are not supported, since they may run code. "
            "Save it again with peft, which writes safetensors."
        )
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            keys = tuple(file.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{WEIGHTS} of the adapter {name!r} is damaged. Copy it again.") from error
    return AdapterFiles(folder, name, read_json(folder / CONFIG, name=f"the adapter {name!r}"), keys)


def _find_folder(source: str) -> tuple[Path, str]:
    """The folder with the adapter's configuration, and the adapter's name."""
    if not source:
        raise ModelError("The adapter's name is empty. Name its folder, or a repository of the hub (owner/name).")
    path = find_path(source)
    if path and path.is_dir():
        folder = _find_adapter_folder(path.resolve())
        return folder, folder.name
    if path and path.is_file():
        raise ModelError(f"{path.name} is a file, and an adapter is a folder. Name the folder that it is in.")
    if REPOSITORY.fullmatch(source):
        return _download_adapter(source), source
    raise ModelError(
        f"There is no folder {Path(source).name[:80]!r} for the adapter. Check its path, or name a repository of the "
        "hub (owner/name)."
    )


def _find_adapter_folder(folder: Path) -> Path:
    """`folder` if it holds an adapter, or else its only subfolder that does, as in a trainer's output."""
    if (folder / CONFIG).is_file():
        return folder
    inner = sorted(item for item in folder.iterdir() if (item / CONFIG).is_file())
    if len(inner) == 1:
        log.info("using the adapter %s/%s", folder.name, inner[0].name)
        return inner[0]
    if inner:
        listed = ", ".join(item.name for item in inner[:MAX_LISTED]) + (", …" if len(inner) > MAX_LISTED else "")
        raise ModelError(f"The folder {folder.name!r} holds {len(inner)} adapters ({listed}). Name one of them.")
    raise ModelError(f"The folder {folder.name!r} holds no adapter ({CONFIG}). Name one that peft has saved.")


def _download_adapter(repository: str) -> Path:
    try:
        with silenced():
            bar = download_progress_bar(ignore_progress, cached_bytes=0, total_bytes=0)
            folder = Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS], tqdm_class=bar))
    except Exception as error:  # the client also raises errors of its HTTP package
        alternative = "name the folder of an adapter (there is none of that name)"
        message = explain_download_failure(error, repository, name=repository, alternative=alternative)
        raise ModelError(message) from error
    if not (folder / CONFIG).is_file():
        raise ModelError(f"The repository {repository} holds no adapter ({CONFIG}). Name one that peft has saved.")
    return folder
