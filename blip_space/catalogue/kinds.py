"""What a folder holds that is no BLIP-2 with a language model, and what takes it instead.

Depends on `config.json`, names of files and names of weights; loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from blip_space.catalogue.parsing import kind_of, read_json
from blip_space.catalogue.rows import MODELS
from blip_space.catalogue.spec import STYLE_OF_FAMILY, Family
from blip_space.errors import ModelError

PICKLES = (".pth", ".pt", ".bin", ".ckpt")
ADAPTER_CONFIG = "adapter_config.json"
LAVIS_PARTS = ("visual_encoder.", "Qformer.", "opt_model.", "t5_model.", "opt_proj.", "t5_proj.", "ln_vision.")
CHAT = "Choose a folder saved from a BLIP-2 checkpoint, or one of " + ", ".join(MODELS)

CONVERTED = (
    "Salesforce publishes LAVIS' BLIP-2 converted; choose one of "
    f"{', '.join(name for name, spec in MODELS.items() if spec.source.startswith('Salesforce/'))}."
)

PARTIAL = {
    "Blip2ForImageTextRetrieval": "scores how well images and texts match, and has no language model",
    "Blip2TextModelWithProjection": "embeds texts, and has no language model",
    "Blip2VisionModelWithProjection": "embeds images, and has no language model",
    "Blip2VisionModel": "is the vision encoder alone, without a language model",
    "Blip2QFormerModel": "is the Q-Former alone, without a language model",
    "Blip2Model": "is a BLIP-2 whose language model was not saved",
}
OTHERS = {
    "instructblip": ("an InstructBLIP", "transformers' InstructBlipForConditionalGeneration takes it"),
    "instructblipvideo": (
        "an InstructBLIP for videos",
        "transformers' InstructBlipVideoForConditionalGeneration takes it",
    ),
    "blip": ("a BLIP of the first generation", "transformers' BlipForConditionalGeneration takes it"),
    "blip_text_model": ("a part of a BLIP of the first generation", "transformers' BlipTextModel takes it"),
    "blip_2_vision_model": ("the vision encoder of a BLIP-2", "transformers' Blip2VisionModel takes it"),
    "blip_2_qformer": ("the Q-Former of a BLIP-2", "transformers' Blip2QFormerModel takes it"),
}
GENERAL = "transformers' AutoModelForImageTextToText or vLLM takes it"


def check_kind(config: Mapping[str, Any], weights: Collection[str], *, name: str) -> Family:
    """The language model's type of a BLIP-2 that can chat; `weights` are the names of its tensors where they are known.

    Raises `ModelError`, which calls the model `name` and says what it is instead.
    """
    model_type, text = config.get("model_type"), config.get("text_config")
    if model_type != "blip-2":
        raise ModelError(_other(config, name))
    partial = next((item for item in _architectures(config) if item in PARTIAL), None)
    has_language_model = any(key.startswith("language_model.") for key in weights)
    if partial and not has_language_model:
        raise ModelError(f"{name} {PARTIAL[partial]}, so it cannot chat ({partial}). {CHAT}.")
    if any(key.startswith(LAVIS_PARTS) for key in weights):
        raise ModelError(f"The weights of {name} are named as LAVIS names them, which is not read here. {CONVERTED}")
    if text is None:
        raise ModelError(_without_language_model(name, has_language_model))
    if not isinstance(text, Mapping):
        raise ModelError(
            f"The text_config in the config.json of {name} is {kind_of(text)}, where the language model's "
            "configuration is expected. Copy config.json again from where the checkpoint came from."
        )
    text_type = text.get("model_type", "opt")  # the type that transformers takes where none is named
    if text_type not in list(STYLE_OF_FAMILY):
        raise ModelError(
            f"{name} holds a model of type 'blip-2' with the language model {str(text_type)[:40]!r}, which is not a "
            f"BLIP-2 of the families {', '.join(STYLE_OF_FAMILY)}. {CHAT}."
        )
    return cast(Family, text_type)


def explain_no_config(folder: Path) -> ModelError:
    """Why a folder without a `config.json` is no checkpoint, by what else is in it."""
    names = sorted(file.name for file in _listed(folder))
    if ADAPTER_CONFIG in names:
        base = base_name(read_json(folder / ADAPTER_CONFIG, name=folder.name)) or "the model that it was trained on"
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
        f"{folder.name} has no config.json, so it is no checkpoint. Name a folder that holds a BLIP-2 model."
    )


def base_name(adapter: Mapping[str, Any]) -> str:
    """The model that an adapter's configuration says that it was trained on: a repository, or a folder's last name."""
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str) or not base.isprintable():
        return ""
    return base if base.count("/") == 1 and not base.startswith((".", "/", "~")) else re.split(r"[/\\]", base)[-1]


def explain_pickle(file: str, name: str) -> ModelError:
    """Why files of LAVIS or of a trainer are not read, and what takes their place."""
    return ModelError(
        f"{name} holds {file}, as LAVIS and trainers save them: a pickle, which may run code when it is opened, so it "
        f"is not. {CONVERTED}"
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
    model_type = config.get("model_type")
    what, way = OTHERS.get(model_type, ("", GENERAL)) if isinstance(model_type, str) else ("", GENERAL)
    if not what and "vision_config" not in config and _generates_text(config):
        what, way = "a language model without a vision encoder", "it cannot be shown an image"
    told = f"{what} (model_type {str(model_type)[:40]!r})" if what else f"a model of type {str(model_type)[:40]!r}"
    return f"{name} holds {told}, which is not a BLIP-2; {way}. {CHAT}."


def _generates_text(config: Mapping[str, Any]) -> bool:
    endings = ("ForCausalLM", "LMHeadModel", "T5ForConditionalGeneration")
    return config.get("model_type") in list(STYLE_OF_FAMILY) or any(
        item.endswith(endings) for item in _architectures(config)
    )


def _architectures(config: Mapping[str, Any]) -> list[str]:
    named = config.get("architectures")
    return [item for item in named if isinstance(item, str)] if isinstance(named, list) else []


def _without_language_model(name: str, has_weights: bool) -> str:
    if has_weights:
        return (
            f"The config.json of {name} does not say what its language model is (text_config), though its weights hold "
            "one. Copy config.json again from where the checkpoint came from."
        )
    return f"{name} has no language model, so it cannot chat: it scores or embeds images and texts. {CHAT}."


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
