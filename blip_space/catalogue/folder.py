"""Reads the spec of a checkpoint from its folder.

Depends on `config.json`, `blip_space.json` and the headers of the weights; reads no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blip_space import settings
from blip_space.catalogue.family import FamilySpec
from blip_space.catalogue.headers import TensorInfo, read_headers
from blip_space.catalogue.parsing import describe_type, read_json
from blip_space.catalogue.ready_questions import read_questions
from blip_space.catalogue.spec import ModelSpec
from blip_space.catalogue.storage import StoredWeights, detect_storage
from blip_space.catalogue.validation import check_language_model, explain_missing_config, find_family
from blip_space.errors import ModelError
from blip_space.languages import LANGUAGES

OWN_CONFIG = "blip_space.json"


def read_folder(folder: Path, *, name: str = "") -> ModelSpec:
    """The spec of a folder, from `config.json`, the headers of the weights and, if present, `blip_space.json`.

    The model's name is the one in `blip_space.json`, else `name`, else the folder's. Raises `ModelError` if the folder
    has no checkpoint of a supported family, or if its format is not supported.
    """
    return build_spec(folder, read_headers(folder), name=name or folder.name, source=str(folder), is_folder=True)


def build_spec(
    folder: Path, headers: Mapping[str, TensorInfo], *, name: str, source: str, is_folder: bool
) -> ModelSpec:
    """The spec of a model whose small files are in `folder` and whose weights have these `headers`.

    `source` is the folder, or the repository from which it was downloaded. Raises `ModelError` as `read_folder` does.
    """
    stored = inspect_checkpoint(folder, headers, name=name)
    config = read_json(folder / "config.json", name=name)
    family = find_family(config, name=name)
    own = _read_own_config(folder, family, name=name)
    model_type = check_language_model(family, config, stored.tensors, own, name=name)
    style = own.get("style", family.language_models[model_type].prompt_style)
    counts = stored.parameter_counts
    has_photo_encoder = own.get("photo_encoder", False) and settings.photo_encoder()
    return ModelSpec(
        name=own.get("name", name),
        source=source,
        family=family.name,
        language_model_type=model_type,
        prompt_style=style,
        parameters=sum(counts.values()),
        languages=tuple(own.get("languages", family.prompt_styles[style])),
        quantized_parameters=sum(count for key, count in counts.items() if _is_quantized(key, stored, family)),
        is_folder=is_folder,
        context_tokens=own.get("context_tokens", _context_tokens(config, family, model_type)),
        description=" ".join(own[key] for key in ("knows", "knows_photographs")[: 1 + has_photo_encoder] if key in own),
        unknown_image_replies=frozenset(own.get("unknown", ())),
        ready_questions=read_questions(folder, name=name),
        photo_encoder=has_photo_encoder,
        stored_precision=stored.precision,
        stored_bytes=stored.loaded_bytes if stored.precision else 0,
    )


def inspect_checkpoint(folder: Path, headers: Mapping[str, TensorInfo], *, name: str) -> StoredWeights:
    """How the model's weights are stored. Raises `ModelError` if its family or its format is not supported."""
    config = read_json(folder / "config.json", name=name)
    if not (folder / "config.json").is_file():
        raise explain_missing_config(folder)
    family = find_family(config, name=name)
    stored = detect_storage(headers, config, family, name=name)
    check_language_model(family, config, stored.tensors, read_json(folder / OWN_CONFIG, name=name), name=name)
    return stored


def _context_tokens(config: Mapping[str, Any], family: FamilySpec, model_type: str) -> int:
    """The size of the context window in tokens."""
    is_bounded = family.language_models[model_type].is_bounded_by_positions
    limit = config["text_config"].get("max_position_embeddings") if is_bounded else None
    return min(family.context_tokens, limit) if type(limit) is int and limit > 0 else family.context_tokens


def _is_quantized(key: str, stored: StoredWeights, family: FamilySpec) -> bool:
    if stored.precision:
        return key.removesuffix(".weight") in stored.quantized_layers
    return bool(family.quantizable_weights.search(key)) and not family.unquantized_weights.search(key)


def _read_own_config(folder: Path, family: FamilySpec, *, name: str) -> dict[str, Any]:
    """The fields of `blip_space.json`. Raises `ModelError` if a field's value is invalid."""
    own = read_json(folder / OWN_CONFIG, name=name)
    styles = tuple(family.prompt_styles)
    style = f"one of {', '.join(styles)}", lambda value: value in styles
    photo_encoder = PHOTO_ENCODER if family.takes_photo_encoder else ("left out", lambda value: value is False)
    for field, (expected, is_valid) in {**FIELDS, "style": style, "photo_encoder": photo_encoder}.items():
        if field in own and not is_valid(own[field]):
            raise ModelError(
                f"{field} in the {OWN_CONFIG} of {name} must be {expected}; its value "
                f"({describe_type(own[field])}) is invalid. Correct it, or leave it out."
            )
    return own


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


FIELDS: dict[str, tuple[str, Any]] = {
    "name": ("a non-empty string", lambda value: _is_string(value) and value.strip()),
    "languages": (
        "a list of one or more codes of the 96 languages",
        lambda value: _are_strings(value) and value and set(value) <= set(LANGUAGES),
    ),
    "context_tokens": ("an integer above 0", lambda value: type(value) is int and value > 0),
    "knows": ("a string", _is_string),
    "knows_photographs": ("a string", _is_string),
    "unknown": ("a list of strings", _are_strings),
}
PHOTO_ENCODER: tuple[str, Any] = ("true or false", lambda value: type(value) is bool)
"""For a family whose models may have a photo encoder."""
