"""Which models there are, and what can be known of one before a byte of it is loaded.

A row for every BLIP-2 checkpoint that people ask for by name, and the same row read from any folder. Knows files and
their headers; knows nothing of torch, of devices or of prompts beyond a style's name.
Figures: the checkpoints' model cards and configurations; parameters are rounded.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from blip_space.errors import ModelError

Family = Literal["opt", "t5", "mt5", "bloom"]
Style = Literal["blip2", "blip2-coco", "mblip"]

DEFAULT_MODEL = "tiny"
TINY_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "tiny"
DECODER_ONLY: frozenset[Family] = frozenset({"opt", "bloom"})
BYTES_PER_PARAMETER = {"fp32": 4, "bf16": 2}

STYLE_OF_FAMILY: dict[Family, Style] = {"opt": "blip2", "t5": "blip2", "mt5": "mblip", "bloom": "mblip"}
"""What a folder without a `blip_space.json` is taken for."""

ENGLISH = ("en",)
MBLIP_CODES = """
af am ar az be bg bn ca ceb cs cy da de el en eo es et eu fa fi fil fr ga gd gl gu ha hi ht hu hy id ig is it iw ja jv
ka kk km kn ko ku ky lb lo lt lv mg mi mk ml mn mr ms mt my ne nl no ny pa pl ps pt ro ru sd si sk sl sm sn so sq sr st
su sv sw ta te tg th tr uk ur uz vi xh yi yo zh zu
"""
MBLIP_LANGUAGES: tuple[str, ...] = tuple(MBLIP_CODES.split())
"""What mBLIP speaks: every row of `languages`, as a test says, since rooms on this floor do not know each other."""


@dataclass(frozen=True)
class ModelSpec:
    """One model: what it is called, where it comes from, what it speaks and how large it is.

    `source` is a hub repository, or a folder when `is_folder`. `parameters` counts all parts. `context_tokens` holds
    query tokens, prompt and, for decoder-only families, the new tokens. `knows` is a sentence for the page, `unknown`
    are the replies that say that the model does not know a picture, `fault` says why there is nothing to load.
    """

    name: str
    source: str
    family: Family
    style: Style
    parameters: int
    languages: tuple[str, ...]
    is_folder: bool = False
    revision: str | None = None
    context_tokens: int = 512
    knows: str = ""
    unknown: frozenset[str] = frozenset()
    fault: str = ""

    @property
    def decoder_only(self) -> bool:
        """Whether the new tokens stand in the same window as the prompt."""
        return self.family in DECODER_ONLY

    @property
    def memory_gb(self) -> dict[str, float]:
        """The weights' size by precision, in 10^9 bytes."""
        return {name: round(self.parameters * size / 1e9, 2) for name, size in BYTES_PER_PARAMETER.items()}


def _blip2(name: str, family: Family, parameters: float, *, style: Style = "blip2") -> ModelSpec:
    return ModelSpec(name, f"Salesforce/{name}", family, style, int(parameters * 1e9), ENGLISH)


def _mblip(name: str, family: Family, parameters: float) -> ModelSpec:
    return ModelSpec(name, f"Gregor/{name}", family, "mblip", int(parameters * 1e9), MBLIP_LANGUAGES)


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        _blip2("blip2-opt-2.7b", "opt", 3.74),
        _blip2("blip2-opt-6.7b", "opt", 7.75),
        _blip2("blip2-flan-t5-xl", "t5", 3.94),
        _blip2("blip2-flan-t5-xxl", "t5", 12.23),
        _blip2("blip2-opt-2.7b-coco", "opt", 3.74, style="blip2-coco"),
        _blip2("blip2-opt-6.7b-coco", "opt", 7.75, style="blip2-coco"),
        _blip2("blip2-flan-t5-xl-coco", "t5", 3.94, style="blip2-coco"),
        _mblip("mblip-mt0-xl", "mt5", 4.9),
        _mblip("mblip-bloomz-7b", "bloom", 8.3),
    )
}
"""The checkpoints on the hub, by name. The embedded model is a folder and is read from it."""

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


def read_folder(folder: Path) -> ModelSpec:
    """What a checkpoint's folder says of itself: `config.json`, the weights' headers and, if there, `blip_space.json`.

    Raises `ModelError` when the folder is no BLIP-2 checkpoint.
    """
    config = _json(folder / "config.json", folder)
    text_type = config.get("text_config", {}).get("model_type", "opt")
    if config.get("model_type") != "blip-2" or text_type not in STYLE_OF_FAMILY:
        found = f"{config.get('model_type')!r} with the language model {text_type!r}"
        raise ModelError(
            f"{folder.name} holds a model of type {found}, which is not a BLIP-2 of the families "
            f"{', '.join(STYLE_OF_FAMILY)}. Choose a folder saved from a BLIP-2 checkpoint."
        )
    family = cast(Family, text_type)
    own = _json(folder / "blip_space.json", folder) if (folder / "blip_space.json").exists() else {}
    style = cast(Style, own.get("style", STYLE_OF_FAMILY[family]))
    return ModelSpec(
        name=str(own.get("name", folder.name)),
        source=str(folder),
        family=family,
        style=style,
        parameters=_count_parameters(folder),
        languages=tuple(own.get("languages", MBLIP_LANGUAGES if style == "mblip" else ENGLISH)),
        is_folder=True,
        context_tokens=int(own.get("context_tokens", 512)),
        knows=str(own.get("knows", "")),
        unknown=frozenset(map(str, own.get("unknown", ()))),
    )


def speakers(language: str) -> list[str]:
    """The models of the hub that speak a language."""
    return [spec.name for spec in MODELS.values() if language in spec.languages]


def _json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{folder.name} has no {path.name}, so it is no checkpoint. Name a folder that holds a BLIP-2 model."
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} in {folder.name} cannot be read. Download the checkpoint again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} in {folder.name} is not a configuration. Download the checkpoint again.")
    return content


def _count_parameters(folder: Path) -> int:
    """Numbers stored in the safetensors files, or half the bytes of older ones; 0 when there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return sum(_header_numbers(path) for path in files)
    return sum(path.stat().st_size for path in folder.glob("*.bin")) // 2


def _header_numbers(path: Path) -> int:
    """Source of the layout: https://huggingface.co/docs/safetensors (8 bytes of length, then a JSON of shapes)."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        return sum(math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
    except (OSError, ValueError, struct.error, KeyError):
        return 0
