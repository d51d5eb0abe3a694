"""Which models there are: a row for every BLIP-2 checkpoint that people ask for by name, and one read from any folder.

Knows files and their headers; knows nothing of torch, of devices or of prompts beyond a style's name.
"""

from __future__ import annotations

from pathlib import Path

from blip_space.catalogue.folder import read_folder
from blip_space.catalogue.rows import MODELS
from blip_space.catalogue.spec import MBLIP_LANGUAGES, PRECISIONS, Family, ModelSpec, Style
from blip_space.errors import ModelError

__all__ = [
    "DEFAULT_MODEL",
    "MBLIP_LANGUAGES",
    "MODELS",
    "NAMES",
    "PRECISIONS",
    "TINY_FOLDER",
    "Family",
    "ModelSpec",
    "Style",
    "find",
    "offered",
    "read_folder",
    "speakers",
]

DEFAULT_MODEL = "tiny"
TINY_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "tiny"

NAMES: tuple[str, ...] = (DEFAULT_MODEL, *MODELS)


def find(name: str, *, folders: bool = False) -> ModelSpec:
    """The model of that name. Only where `folders` is set, which a visitor's call never does, may it be a path."""
    if name == DEFAULT_MODEL:
        return read_folder(TINY_FOLDER)
    if name in MODELS:
        return MODELS[name]
    if folders and Path(name).expanduser().is_dir():
        return read_folder(Path(name).expanduser().resolve())
    what = "There is no model, and no folder," if folders else "There is no model"
    raise ModelError(f"{what} {str(name)[:80]!r}. The models are {', '.join(NAMES)}.")


def offered(name: str) -> ModelSpec:
    """An owner's choice, a path allowed. A folder that holds no checkpoint comes back with its `fault`, for the page.

    A name that is neither a model nor a folder raises `ModelError`.
    """
    try:
        return find(name, folders=True)
    except ModelError as error:
        folder = TINY_FOLDER if name == DEFAULT_MODEL else Path(name).expanduser()
        if name != DEFAULT_MODEL and not folder.is_dir():
            raise
        return ModelSpec(folder.resolve().name, str(folder), "mt5", "mblip", 0, (), is_folder=True, fault=str(error))


def speakers(language: str) -> list[str]:
    """The models of the hub that speak a language."""
    return [spec.name for spec in MODELS.values() if language in spec.languages]
