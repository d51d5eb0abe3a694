"""The models: specs of the well-known checkpoints by name, and specs read from any folder or hub repository.

Depends on files and their headers; must not import torch. Model families are the modules of `families`.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

from blip_space import ASSETS
from blip_space.catalogue import families
from blip_space.catalogue.folder import read_folder
from blip_space.catalogue.hub import REPOSITORY, find_snapshot, read_repository
from blip_space.catalogue.parsing import find_path
from blip_space.catalogue.remote import is_remote, read_remote
from blip_space.catalogue.spec import MODELS, PRECISIONS, ModelSpec
from blip_space.catalogue.validation import explain_file
from blip_space.errors import ModelError

log = logging.getLogger(__name__)

__all__ = [
    "DEFAULT_MODEL",
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
MIN_SIMILARITY = 0.7


def find_model(name: str, *, folders: bool = False) -> ModelSpec:
    """The spec of the catalogue's model with this name or this hub repository; case does not matter.

    With `folders`, which the page and the API never set, `name` may also be a path, any hub repository `owner/name`, or
    a remote model `openai:URL#NAME`. Raises `ModelError` if there is no such model.
    """
    name = str(name).strip()
    if folders and is_remote(name):
        return read_remote(name)
    catalogued = _BY_ANY_NAME.get(name.lower())
    if folders and name and name not in NAMES and (spec := _read_path(name)):
        return spec
    if catalogued is not None:
        return read_folder(TINY_FOLDER) if catalogued == DEFAULT_MODEL else MODELS[catalogued]
    if folders and REPOSITORY.fullmatch(name):
        try:
            return read_repository(name)
        except ModelError as error:
            raise ModelError(f"{error}{_suggestion(name)}") from error
    raise ModelError(_unknown_model_message(name, folders=folders))


def find_operator_model(name: str) -> ModelSpec:
    """`find_model` with `folders`, but a folder without a usable checkpoint gives a spec with a `load_error`.

    Raises `ModelError`, and nothing else, for a name that is neither a model nor a folder.
    """
    name = str(name).strip()
    try:
        return find_model(name, folders=True)
    except ModelError as error:
        message = str(error)
        folder = TINY_FOLDER if name == DEFAULT_MODEL else _existing_folder(name)
        if folder is None:
            raise
    except Exception as error:
        log.exception("the model %r could not be read", name)
        folder, message = _existing_folder(name), _unreadable_message(name, error)
        if folder is None:
            raise ModelError(message) from error
    return _unusable_spec(folder, message)


def check_unique_names(specs: Sequence[ModelSpec]) -> None:
    """Raise `ModelError` if two different models have the same name, since only one of them could be chosen."""
    sources: dict[str, str] = {}
    for spec in specs:
        source = str(Path(spec.source).resolve()) if spec.is_folder else spec.source
        if sources.setdefault(spec.name, source) != source:
            raise ModelError(
                f"Two models are called {spec.name!r}: {sources[spec.name]} and {source}. Rename the folder of one, or "
                'give it another "name" in its blip_space.json.'
            )


def models_supporting(language: str) -> list[str]:
    """The names of the models in `MODELS` that support `language`, a code."""
    return [spec.name for spec in MODELS.values() if language in spec.languages]


def most_multilingual_model() -> str:
    """The name of the model in `MODELS` that supports the most languages; the first one of several."""
    return max(MODELS.values(), key=lambda spec: len(spec.languages)).name


def _unusable_spec(folder: Path, message: str) -> ModelSpec:
    """A spec for a folder that cannot be loaded, with `message` as its `load_error` and an arbitrary family."""
    family = next(iter(families.ALL.values()))
    model_type, language_model = next(iter(family.language_models.items()))
    return ModelSpec(
        folder.resolve().name, str(folder), family.name, model_type, language_model.prompt_style, 0, (),
        is_folder=True, load_error=message,
    )  # fmt: skip


def _read_path(name: str) -> ModelSpec | None:
    """The spec of the folder with the path `name`, which may be in the hub's cache; None if there is no such path."""
    path = find_path(name)
    if path and path.is_dir():
        folder = path.resolve()
        repository, folder = find_snapshot(folder) or ("", folder)
        return read_folder(folder, name=repository)
    if path and path.is_file():
        raise explain_file(path)
    return None


def _existing_folder(name: str) -> Path | None:
    path = find_path(name) if name else None
    return path if path and path.is_dir() else None


def _unknown_model_message(name: str, *, folders: bool) -> str:
    if not name:
        return f"No model is named. The models are {', '.join(NAMES)}."
    message = f"{name[:80]!r}.{_suggestion(name)} The models are {', '.join(NAMES)}."
    if not folders:
        return f"There is no model {message}"
    return (
        f"There is no model, and no folder, {message} A folder with {families.list_supported()}, or a hub repository "
        "of one (owner/name), can be named too, or a model of another server (openai:URL#NAME)."
    )


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name.lower(), _BY_ANY_NAME, n=1, cutoff=MIN_SIMILARITY)
    return f" Did you mean {_BY_ANY_NAME[close[0]]!r}?" if close else ""


def _unreadable_message(name: str, error: Exception) -> str:
    return (
        f"The model {Path(name).name[:80]!r} could not be read ({type(error).__name__}). Check its files, or "
        f"choose one of {', '.join(NAMES)}."
    )
