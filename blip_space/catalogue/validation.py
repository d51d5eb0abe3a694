"""What a folder holds that is no model of a family with a language model, and what takes it instead.

Depends on `config.json`, names of files and names of weights; loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from blip_space.catalogue import families
from blip_space.catalogue.families import join_with_or, list_architectures, list_supported
from blip_space.catalogue.family import FamilySpec
from blip_space.catalogue.parsing import describe_type, read_json
from blip_space.catalogue.rows import MODELS
from blip_space.errors import ModelError

PICKLES = (".pth", ".pt", ".bin", ".ckpt")
ADAPTER_CONFIG = "adapter_config.json"
CHAT = f"Choose a folder saved from {list_supported()}, or one of {', '.join(MODELS)}"
COPY_AGAIN = "Copy config.json again from where the checkpoint came from"
GENERAL = "transformers' AutoModelForImageTextToText or vLLM takes it"


def find_family(config: Mapping[str, Any], *, name: str) -> FamilySpec:
    """The family that a `config.json` is of; `ModelError`, which calls the model `name` and says what it is instead."""
    family = families.identify(config)
    if family is None:
        raise ModelError(_other(config, name))
    return family


def check_language_model(
    family: FamilySpec, config: Mapping[str, Any], weights: Collection[str], own: Mapping[str, Any], *, name: str
) -> str:
    """The language model's type of a model that can chat.

    `weights` are the names of its tensors where they are known, and `own` is what its `blip_space.json` says. Raises
    `ModelError`, which calls the model `name` and says what it is instead.
    """
    text = config.get("text_config")
    partial = next((item for item in list_architectures(config) if item in family.partial_architectures), None)
    writes = any(key.startswith(family.generator_prefix) for key in weights)
    if partial and not writes:
        raise ModelError(f"{name} {family.partial_architectures[partial]}, so it cannot chat ({partial}). {CHAT}.")
    if isinstance(text, Mapping | None) and (refused := family.unsupported_reason(config, weights, own)):
        raise ModelError(f"{name} {refused}")
    if text is None:
        raise ModelError(_without_language_model(name, writes))
    if not isinstance(text, Mapping):
        raise ModelError(
            f"The text_config in the config.json of {name} is {describe_type(text)}, where the language model's "
            f"configuration is expected. {COPY_AGAIN}."
        )
    text_type = text.get("model_type", family.default_language_model)
    if not isinstance(text_type, str) or text_type not in family.language_models:
        raise ModelError(
            f"{name} holds {family.noun} with the language model {str(text_type)[:40]!r}, which is not read here; "
            f"with {join_with_or(family.language_models)} it is. {CHAT}."
        )
    return text_type


def explain_missing_config(folder: Path) -> ModelError:
    """Why a folder without a `config.json` is no checkpoint, by what else is in it."""
    names = sorted(file.name for file in _listed(folder))
    if ADAPTER_CONFIG in names:
        base = (
            base_model_name(read_json(folder / ADAPTER_CONFIG, name=folder.name)) or "the model that it was trained on"
        )
        return ModelError(
            f"{folder.name} is an adapter for {base}, not a model. Name that model with --model, and this folder with "
            "--adapter."
        )
    if pickle := next((name for name in names if name.endswith(PICKLES)), None):
        return explain_pickle(pickle, folder.name)
    inner = [item.name for item in _listed(folder) if (item / "config.json").is_file()]
    if inner:
        return ModelError(
            f"{folder.name} has no config.json, so it is no checkpoint, but its folder {inner[0]} has one. Name that "
            "folder."
        )
    return ModelError(
        f"{folder.name} has no config.json, so it is no checkpoint. Name a folder that holds {list_supported()}."
    )


def base_model_name(adapter: Mapping[str, Any]) -> str:
    """The model that an adapter's configuration says that it was trained on: a repository, or a folder's last name."""
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str) or not base.isprintable():
        return ""
    return base if base.count("/") == 1 and not base.startswith((".", "/", "~")) else re.split(r"[/\\]", base)[-1]


def explain_pickle(file: str, name: str) -> ModelError:
    """Why files of LAVIS or of a trainer are not read, and what takes their place."""
    return ModelError(
        f"{name} holds {file}, as LAVIS and trainers save them: a pickle, which may run code when it is opened, so it "
        f"is not. {' '.join(filter(None, (row.pickle_alternative for row in families.ALL.values()))) or f'{CHAT}.'}"
    )


def explain_file(file: Path) -> ModelError:
    """Why a path of a file is no model."""
    if file.suffix in PICKLES:
        return explain_pickle(file.name, "The path")
    return ModelError(
        f"{file.name} is a file, and a model is a folder. Name the folder that it lies in, which must hold config.json "
        "and the weights."
    )


def _other(config: Mapping[str, Any], name: str) -> str:
    model_type, first = config.get("model_type"), next(iter(list_architectures(config)), "")
    if any(first == row.architecture for row in families.ALL.values()):
        return (
            f"The config.json of {name} says that it is of the architecture {first} and of the model_type "
            f"{str(model_type)[:40]!r}, which do not belong together. {COPY_AGAIN}."
        )
    related = {key: value for row in families.ALL.values() for key, value in row.related_model_types.items()}
    what, way = related.get(model_type, ("", GENERAL)) if isinstance(model_type, str) else ("", GENERAL)
    if not what and "vision_config" not in config and _generates_text(config):
        what, way = "a language model without a vision encoder", "it cannot be shown an image"
    told = f"{what} (model_type {str(model_type)[:40]!r})" if what else f"a model of type {str(model_type)[:40]!r}"
    return f"{name} holds {told}, which is not {list_supported()}; {way}. {CHAT}."


def _generates_text(config: Mapping[str, Any]) -> bool:
    endings = ("ForCausalLM", "LMHeadModel", "T5ForConditionalGeneration")
    known = {kind for row in families.ALL.values() for kind in row.language_models}
    model_type = config.get("model_type")
    return (isinstance(model_type, str) and model_type in known) or any(
        item.endswith(endings) for item in list_architectures(config)
    )


def _without_language_model(name: str, has_weights: bool) -> str:
    if has_weights:
        return (
            f"The config.json of {name} does not say what its language model is (text_config), though its weights hold "
            f"one. {COPY_AGAIN}."
        )
    return f"{name} has no language model, so it cannot chat: its config.json names none (text_config). {CHAT}."


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
