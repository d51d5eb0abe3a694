"""Which models there are: a row for every checkpoint that people ask for by name, and one read from any folder or
repository of the hub. Families are the modules of `families`.

Knows files and their headers; knows nothing of torch, of devices or of prompts beyond a style's name.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

from blip_space import ASSETS
from blip_space.catalogue import families
from blip_space.catalogue.folder import read_folder
from blip_space.catalogue.hub import REPOSITORY, find_snapshot, read_repository, read_snapshot
from blip_space.catalogue.language_codes import MBLIP_LANGUAGES
from blip_space.catalogue.rows import MODELS
from blip_space.catalogue.spec import PRECISIONS, ModelSpec
from blip_space.catalogue.validation import explain_file
from blip_space.errors import ModelError

log = logging.getLogger(__name__)

__all__ = [
    "DEFAULT_MODEL",
    "MBLIP_LANGUAGES",
    "MODELS",
    "NAMES",
    "PRECISIONS",
    "TINY_FOLDER",
    "ModelSpec",
    "check_unique_names",
    "find_model",
    "find_operator_model",
    "models_supporting",
    "most_multilingual_model",
    "read_folder",
]

DEFAULT_MODEL = "tiny"
TINY_FOLDER = ASSETS / "tiny"

NAMES: tuple[str, ...] = (DEFAULT_MODEL, *MODELS)

_BY_ANY_NAME = {
    **{spec.source.lower(): name for name, spec in MODELS.items()},
    **{name.lower(): name for name in NAMES},
}
LEAST_LIKENESS = 0.7


def find_model(name: str, *, folders: bool = False) -> ModelSpec:
    """The model of that name, or of that repository of the hub where the catalogue has a row for it, in any case.

    Only where `folders` is set, which a caller of the page or the API never does, may it be a path, or any repository
    `owner/name`. Raises `ModelError` when there is no such model.
    """
    wanted = str(name).strip()
    known = _BY_ANY_NAME.get(wanted.lower())
    if folders and wanted and wanted not in NAMES and (spec := _read_path(wanted)):
        return spec
    if known is not None:
        return read_folder(TINY_FOLDER) if known == DEFAULT_MODEL else MODELS[known]
    if folders and REPOSITORY.fullmatch(wanted):
        return _read_repository(wanted)
    raise ModelError(_unknown(wanted, folders=folders))


def find_operator_model(name: str) -> ModelSpec:
    """An operator's choice, a path allowed. A folder that holds no checkpoint comes back with its `fault`, to be shown.

    A name that is neither a model nor a folder raises `ModelError`, and nothing else is raised.
    """
    try:
        return find_model(name, folders=True)
    except ModelError as error:
        message = str(error)
        folder = TINY_FOLDER if name == DEFAULT_MODEL else _folder(str(name).strip())
        if folder is None:
            raise
    except Exception as error:
        log.exception("the model %r could not be read", name)
        folder, message = _folder(str(name).strip()), _unreadable(name, error)
        if folder is None:
            raise ModelError(message) from error
    return _faulty(folder, message)


def check_unique_names(specs: Sequence[ModelSpec]) -> None:
    """Raise `ModelError`, which names both, where two of these are called the same: only one could be chosen."""
    known: dict[str, str] = {}
    for spec in specs:
        source = str(Path(spec.source).resolve()) if spec.is_folder else spec.source
        if known.setdefault(spec.name, source) != source:
            raise ModelError(
                f"Two models are called {spec.name!r}: {known[spec.name]} and {source}. Rename the folder of one, or "
                'give it another "name" in its blip_space.json.'
            )


def models_supporting(language: str) -> list[str]:
    """The models of the hub that speak a language."""
    return [spec.name for spec in MODELS.values() if language in spec.languages]


def most_multilingual_model() -> str:
    """The first model of the hub that speaks more languages than those before it, and no fewer than those after it."""
    return max(MODELS.values(), key=lambda spec: len(spec.languages)).name


def _faulty(folder: Path, message: str) -> ModelSpec:
    """A folder of which nothing is known but why it cannot be loaded."""
    family = next(iter(families.ALL.values()))
    kind, row = next(iter(family.language_models.items()))
    name = folder.resolve().name
    return ModelSpec(name, str(folder), family.name, kind, row.prompt_style, 0, (), is_folder=True, load_error=message)


def _read_path(name: str) -> ModelSpec | None:
    """The model of a folder, one of the hub's cache included; None where there is no such path."""
    if folder := _folder(name):
        folder = folder.resolve()
        snapshot = find_snapshot(folder)
        return read_snapshot(*snapshot) if snapshot else read_folder(folder)
    if file := _file(name):
        raise explain_file(file)
    return None


def _read_repository(name: str) -> ModelSpec:
    try:
        return read_repository(name)
    except ModelError as error:
        raise ModelError(f"{error}{_guess(name)}") from error


def _folder(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a name that no file can have, or another user's home
        return None


def _file(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _unknown(name: str, *, folders: bool) -> str:
    if not name:
        return f"No model is named. The models are {', '.join(NAMES)}."
    what = "There is no model, and no folder," if folders else "There is no model"
    others = (
        f" The folder of {families.list_supported()}, or the hub's name of one (owner/name), may be named too."
        if folders
        else ""
    )
    return f"{what} {name[:80]!r}.{_guess(name)} The models are {', '.join(NAMES)}.{others}"


def _guess(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), _BY_ANY_NAME, n=1, cutoff=LEAST_LIKENESS)
    return f" Did you mean {_BY_ANY_NAME[close[0]]!r}?" if close else ""


def _unreadable(name: str, error: Exception) -> str:
    return (
        f"The model {Path(str(name)).name[:80]!r} could not be read ({type(error).__name__}). Check its files, or "
        f"choose one of {', '.join(NAMES)}."
    )
