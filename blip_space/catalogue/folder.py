"""What a checkpoint's folder says of itself.

Knows files and their headers; reads no weights.
"""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any, cast

from blip_space.catalogue.spec import ENGLISH, MBLIP_LANGUAGES, STYLE_OF_FAMILY, Family, ModelSpec, Style
from blip_space.errors import ModelError

LAYERS = re.compile(r"language_model\..*\.weight$")
NOT_QUANTISED = re.compile(r"lm_head|embed|shared|norm|relative_attention_bias|\.wo\.")
"""Heads, embeddings and T5's `wo` keep their 16 bits."""


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
    numbers = _stored_numbers(folder)
    family = cast(Family, text_type)
    own = _json(folder / "blip_space.json", folder) if (folder / "blip_space.json").exists() else {}
    style = cast(Style, own.get("style", STYLE_OF_FAMILY[family]))
    return ModelSpec(
        name=str(own.get("name", folder.name)),
        source=str(folder),
        family=family,
        style=style,
        parameters=sum(numbers.values()),
        languages=tuple(own.get("languages", MBLIP_LANGUAGES if style == "mblip" else ENGLISH)),
        quantised=sum(number for key, number in numbers.items() if _is_layer(key)),
        is_folder=True,
        context_tokens=int(own.get("context_tokens", 512)),
        knows=str(own.get("knows", "")),
        unknown=frozenset(map(str, own.get("unknown", ()))),
    )


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


def _is_layer(key: str) -> bool:
    return bool(LAYERS.search(key)) and not NOT_QUANTISED.search(key)


def _stored_numbers(folder: Path) -> dict[str, int]:
    """How many numbers each tensor of the safetensors files has."""
    return {key: number for path in sorted(folder.glob("*.safetensors")) for key, number in _header(path).items()}


def _header(path: Path) -> dict[str, int]:
    """Source of the layout: https://huggingface.co/docs/safetensors (8 bytes of length, then a JSON of shapes)."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        return {key: math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__"}
    except (OSError, ValueError, struct.error, KeyError):
        return {}
