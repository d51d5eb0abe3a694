"""Checks whether a folder holds a model of a supported family; errors say what it holds and what supports that.

Depends on `config.json`, names of files and names of weights; loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from blip_space.catalogue import families
from blip_space.catalogue.families import list_supported
from blip_space.catalogue.family import FamilySpec, list_architectures
from blip_space.catalogue.parsing import describe_type, read_json
from blip_space.catalogue.spec import MODELS
from blip_space.errors import ModelError

PICKLES = (".pth", ".pt", ".bin", ".ckpt")
ADAPTER_CONFIG = "adapter_config.json"
OTHERS = f"Choose a folder saved from {list_supported()}, or one of {', '.join(MODELS)}"
COPY_AGAIN = "Copy config.json again from where the checkpoint came from"
GENERAL_PROGRAMS = "transformers' AutoModelForImageTextToText or vLLM supports it"


def find_family(config: Mapping[str, Any], *, name: str) -> FamilySpec:
    """The family of the model `name` with this `config.json`. Raises `ModelError` if it belongs to none."""
    family = families.identify(config)
    if family is None:
        raise ModelError(_other_model_message(config, name))
    return family


def check_language_model(
    family: FamilySpec, config: Mapping[str, Any], weights: Collection[str], own: Mapping[str, Any], *, name: str
) -> str:
    """The type of the language model in the model `name`.

    `weights` are the names of its tensors, if known; `own` is the content of its `blip_space.json`. Raises
    `ModelError`, which says what the model is, if it cannot chat or is not supported.
    """
    text = config.get("text_config")
    partial = next((item for item in list_architectures(config) if item in family.partial_architectures), None)
    has_generator = any(key.startswith(family.generator_prefix) for key in weights)
    if partial and not has_generator:
        raise ModelError(f"{name} {family.partial_architectures[partial]}, so it cannot chat ({partial}). {OTHERS}.")
    if isinstance(text, Mapping | None) and (reason := family.unsupported_reason(config, weights, own)):
        raise ModelError(f"{name} {reason}")
    if text is None:
        raise ModelError(_no_language_model_message(name, has_generator))
    if not isinstance(text, Mapping):
        raise ModelError(
            f"The text_config in the config.json of {name} is {describe_type(text)} instead of the language model's "
            f"configuration. {COPY_AGAIN}."
        )
    text_type = text.get("model_type", family.default_language_model)
    if not isinstance(text_type, str) or text_type not in family.language_models:
        raise ModelError(
            f"{name} is {family.noun} with the language model {str(text_type)[:40]!r}, which is not supported. "
            f"Supported: {', '.join(family.language_models)}. {OTHERS}."
        )
    return text_type


def explain_missing_config(folder: Path) -> ModelError:
    """The error for a folder without a `config.json`, which depends on the other files in it."""
    files = _list_folder(folder)
    names = [file.name for file in files]
    if ADAPTER_CONFIG in names:
        config = read_json(folder / ADAPTER_CONFIG, name=folder.name)
        base = base_model_name(config) or "the model that it was trained on"
        return ModelError(
            f"{folder.name} is an adapter for {base}, not a model. Pass that model with --model, and this folder with "
            "--adapter."
        )
    if pickle := next((name for name in names if name.endswith(PICKLES)), None):
        return explain_pickle(pickle, folder.name)
    if inner := next((file.name for file in files if (file / "config.json").is_file()), None):
        return ModelError(
            f"{folder.name} has no config.json, so it is not a checkpoint, but its folder {inner} has one. Name that "
            "folder."
        )
    return ModelError(
        f"{folder.name} has no config.json, so it is not a checkpoint. Name a folder with {list_supported()}."
    )


def base_model_name(adapter: Mapping[str, Any]) -> str:
    """The base model in an adapter's configuration: a repository, or a folder's name without its path; may be empty."""
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str) or not base.isprintable():
        return ""
    return base if base.count("/") == 1 and not base.startswith((".", "/", "~")) else re.split(r"[/\\]", base)[-1]


def explain_pickle(file: str, name: str) -> ModelError:
    """The error for a pickled checkpoint of LAVIS or a trainer; it says what to choose instead."""
    alternatives = " ".join(filter(None, (family.pickle_alternative for family in families.ALL.values())))
    return ModelError(
        f"{name} holds {file}, a pickle as LAVIS and trainers save them. A pickle may run code when it is opened, so "
        f"it is not supported. {alternatives or f'{OTHERS}.'}"
    )


def explain_file(file: Path) -> ModelError:
    """The error for the path of a file, since a model is a folder."""
    if file.suffix in PICKLES:
        return explain_pickle(file.name, "The path")
    return ModelError(
        f"{file.name} is a file, and a model is a folder. Name the folder that it is in, which must hold config.json "
        "and the weights."
    )


def _other_model_message(config: Mapping[str, Any], name: str) -> str:
    model_type, first = config.get("model_type"), next(iter(list_architectures(config)), "")
    if any(first == family.architecture for family in families.ALL.values()):
        return (
            f"The config.json of {name} names the architecture {first} and the model_type {str(model_type)[:40]!r}, "
            f"which do not belong together. {COPY_AGAIN}."
        )
    related = {key: value for family in families.ALL.values() for key, value in family.related_model_types.items()}
    unrelated = "", GENERAL_PROGRAMS
    what, program = related.get(model_type, unrelated) if isinstance(model_type, str) else unrelated
    if not what and "vision_config" not in config and _generates_text(config):
        what, program = "a language model without a vision encoder", "it cannot process images"
    quoted = repr(str(model_type)[:40])
    description = f"{what} (model_type {quoted})" if what else f"a model of type {quoted}"
    return f"{name} holds {description}, which is not {list_supported()}; {program}. {OTHERS}."


def _generates_text(config: Mapping[str, Any]) -> bool:
    endings = ("ForCausalLM", "LMHeadModel", "T5ForConditionalGeneration")
    language_models = [name for family in families.ALL.values() for name in family.language_models]
    has_ending = any(name.endswith(endings) for name in list_architectures(config))
    return has_ending or config.get("model_type") in language_models


def _no_language_model_message(name: str, has_weights: bool) -> str:
    if has_weights:
        return (
            f"The config.json of {name} does not describe its language model (text_config), though its weights hold "
            f"one. {COPY_AGAIN}."
        )
    return f"{name} has no language model, so it cannot chat: its config.json names none (text_config). {OTHERS}."


def _list_folder(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
