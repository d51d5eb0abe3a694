"""What a checkpoint's folder says of itself.

Depends on `config.json`, `blip_space.json` and the headers of the weights; reads no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blip_space.catalogue.family import FamilySpec
from blip_space.catalogue.headers import TensorInfo, read_headers
from blip_space.catalogue.language_codes import MBLIP_LANGUAGES
from blip_space.catalogue.parsing import describe_type, read_json
from blip_space.catalogue.spec import ModelSpec
from blip_space.catalogue.storage import StoredWeights, detect_storage
from blip_space.catalogue.validation import check_language_model, explain_missing_config, find_family
from blip_space.errors import ModelError

OWN = "blip_space.json"


def read_folder(folder: Path) -> ModelSpec:
    """What a checkpoint's folder says of itself: `config.json`, the weights' headers and, if there, `blip_space.json`.

    Raises `ModelError` when the folder is no checkpoint of a family, or is stored in a form that is not read.
    """
    return build_spec(folder, read_headers(folder), name=folder.name, source=str(folder), is_folder=True)


def build_spec(
    folder: Path, headers: Mapping[str, TensorInfo], *, name: str, source: str, is_folder: bool
) -> ModelSpec:
    """The spec of the model whose small files are in `folder` and whose weights have those headers.

    `source` is the folder, or the repository that it was downloaded from. Raises `ModelError` as `read_folder` does.
    """
    stored = inspect_checkpoint(folder, headers, name=name)
    config = read_json(folder / "config.json", name=name)
    family = find_family(config, name=name)
    own = _read_own(folder, family, name=name)
    kind = check_language_model(family, config, stored.tensors, own, name=name)
    style = own.get("style", family.language_models[kind].prompt_style)
    numbers = stored.parameter_counts
    return ModelSpec(
        name=own.get("name", name),
        source=source,
        family=family.name,
        language_model_type=kind,
        prompt_style=style,
        parameters=sum(numbers.values()),
        languages=tuple(own.get("languages", family.prompt_styles[style])),
        quantized_parameters=sum(number for key, number in numbers.items() if _is_quantised(key, stored, family)),
        is_folder=is_folder,
        context_tokens=own.get("context_tokens", _window(config, family)),
        description=own.get("knows", ""),
        unknown_image_replies=frozenset(own.get("unknown", ())),
        stored_precision=stored.precision,
        stored_bytes=stored.loaded_bytes if stored.precision else 0,
    )


def inspect_checkpoint(folder: Path, headers: Mapping[str, TensorInfo], *, name: str) -> StoredWeights:
    """How the weights of the model in `folder` are stored; `ModelError` where it is of no family, or they are not
    read."""
    config = read_json(folder / "config.json", name=name)
    if not (folder / "config.json").is_file():
        raise explain_missing_config(folder)
    family = find_family(config, name=name)
    stored = detect_storage(headers, config, family, name=name)
    check_language_model(family, config, stored.tensors, read_json(folder / OWN, name=name), name=name)
    return stored


def _window(config: Mapping[str, Any], family: FamilySpec) -> int:
    """How many positions the language model is good for."""
    named = config["text_config"].get("max_position_embeddings") if family.is_bounded_by_positions else None
    return min(family.context_tokens, named) if type(named) is int and named > 0 else family.context_tokens


def _is_quantised(key: str, stored: StoredWeights, family: FamilySpec) -> bool:
    if stored.precision:
        return key.removesuffix(".weight") in stored.quantized_layers
    return bool(family.quantizable_weights.search(key)) and not family.unquantized_weights.search(key)


def _read_own(folder: Path, family: FamilySpec, *, name: str) -> dict[str, Any]:
    """The fields of `blip_space.json`, each of its type; `ModelError` where one is not."""
    own = read_json(folder / OWN, name=name)
    styles = (
        f"one of {', '.join(family.prompt_styles)}",
        lambda value: _is_text(value) and value in family.prompt_styles,
    )
    for field, (expected, is_right) in {**FIELDS, "style": styles}.items():
        if field in own and not is_right(own[field]):
            raise ModelError(
                f"{field} in the {OWN} of {name} is {describe_type(own[field])} that does not fit; it must be {expected}. "
                "Correct it, or leave it out."
            )
    return own


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


FIELDS: dict[str, tuple[str, Any]] = {
    "name": ("a text with letters in it", lambda value: _is_text(value) and value.strip()),
    "languages": (
        "a list of one or more codes of the 96 languages",
        lambda value: _are_texts(value) and value and set(value) <= set(MBLIP_LANGUAGES),
    ),
    "context_tokens": (
        "a whole number above 0",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    ),
    "knows": ("a text", _is_text),
    "unknown": ("a list of texts", _are_texts),
}
