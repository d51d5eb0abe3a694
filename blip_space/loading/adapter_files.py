"""Where an adapter's files are: its folder, the one folder in a trainer's output that holds one, or a repository.

Knows the files that peft writes, `adapter_config.json` and `adapter_model.safetensors`; reads no weights.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from blip_space.catalogue.hub import REPOSITORY, explain_download_failure
from blip_space.catalogue.parsing import read_json
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
    """An adapter's folder, what it is called in sentences, its configuration and the names of its weights."""

    folder: Path
    name: str
    config: dict[str, Any]
    keys: tuple[str, ...]

    @property
    def base_model(self) -> str:
        """What the adapter says that it was trained on, or nothing."""
        return base_model_name(self.config)


def find_adapter(chosen: str) -> AdapterFiles:
    """The adapter in a folder, of which `~` is expanded, or in a repository `owner/name`, downloaded where needed.

    Raises `ModelError` where there is none, or none that is whole and readable.
    """
    folder, name = _locate(chosen.strip())
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"The adapter {name!r} has no {WEIGHTS}; weights as a pickle are not read, since they may run code. "
            "Save it again with peft, which writes safetensors."
        )
    try:
        with safe_open(folder / WEIGHTS, "pt") as opened:
            keys = tuple(opened.keys())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{WEIGHTS} of the adapter {name!r} is damaged. Copy it again.") from error
    return AdapterFiles(folder, name, read_json(folder / CONFIG, name=f"the adapter {name!r}"), keys)


def _locate(chosen: str) -> tuple[Path, str]:
    """The folder with the adapter's configuration, and what the adapter is called."""
    path = _expanded(chosen)
    if path is not None and path.is_dir():
        folder = _inner(path.resolve())
        return folder, folder.name
    if path is not None and path.is_file():
        raise ModelError(f"{path.name} is a file, and an adapter is a folder. Name the folder that it lies in.")
    if REPOSITORY.fullmatch(chosen):
        return _download(chosen), chosen
    raise ModelError(
        f"There is no folder {Path(chosen).name[:80]!r} for the adapter. Check its path, or name a repository of the "
        "hub (owner/name)."
    )


def _expanded(chosen: str) -> Path | None:
    """The path, or None where no file can be called so or the user of `~user` is unknown."""
    try:
        path = Path(chosen).expanduser()
        path.is_dir()
    except (OSError, RuntimeError, ValueError):
        return None
    return path


def _inner(folder: Path) -> Path:
    """The folder itself, or the only one in it that holds an adapter, as trainers save checkpoints."""
    if (folder / CONFIG).is_file():
        return folder
    inner = sorted(item for item in folder.iterdir() if (item / CONFIG).is_file())
    if len(inner) == 1:
        log.info("the adapter in %s is %s", folder.name, inner[0].name)
        return inner[0]
    if inner:
        listed = ", ".join(item.name for item in inner[:MAX_LISTED]) + (", …" if len(inner) > MAX_LISTED else "")
        raise ModelError(f"The folder {folder.name!r} holds {len(inner)} adapters ({listed}). Name one of them.")
    raise ModelError(f"The folder {folder.name!r} holds no adapter ({CONFIG}). Name one that peft has saved.")


def _download(repository: str) -> Path:
    try:
        with silenced():
            bar = download_progress_bar(ignore_progress, here=0, total=0)
            folder = Path(snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS], tqdm_class=bar))
    except Exception as error:  # the client lets those of its transport through, and their package differs by version
        instead = "name the folder of an adapter (there is none that is called so)"
        raise ModelError(explain_download_failure(error, repository, name=repository, instead=instead)) from error
    if not (folder / CONFIG).is_file():
        raise ModelError(f"The repository {repository} holds no adapter ({CONFIG}). Name one that peft has saved.")
    return folder
