"""A LoRA adapter on top of a loaded checkpoint: of the language model, the vision encoder, the Q-Former or all of them.

Knows peft. An adapter that was trained on the whole model names its parts; one that was trained on the language model
alone does not.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from blip_space.catalogue.family import FamilySpec
from blip_space.catalogue.weight_names import WeightNames
from blip_space.errors import ModelError
from blip_space.loading.adapter_files import AdapterFiles
from blip_space.loading.memory import is_out_of_memory
from blip_space.models.family import Family
from blip_space.models.interface import Precision

NAME = "default"
PEFTS_PREFIX = "base_model.model."
BODY = "model."
"""What stands before the names of a language model that was trained with its output layer on it."""


def apply_lora(
    network: Any, adapter: AdapterFiles, family: Family, row: FamilySpec, *, name: str, precision: Precision
) -> None:
    """Put the adapter onto the network of the model `name`; `ModelError` where it does not fit in every weight.

    `row` is the family's in the catalogue. Whole numbers take it up, so that it costs nothing afterwards; beside
    quantised layers it stays what it is.
    """
    peft = _import_peft()
    _refuse_unsupported(adapter, precision)
    names = WeightNames(adapter.keys, row)
    is_whole = any(names.parameter_name(key).startswith(row.weight_prefixes) for key in adapter.keys)
    target = network if is_whole else family.language_model(network)
    for mark in ("is_loaded_in_8bit", "is_loaded_in_4bit"):  # which peft looks for on the part that it is given
        setattr(target, mark, getattr(network, mark, False))
    try:
        adapted, found = _apply(peft, target, adapter, names)
    except Exception as error:  # peft's own checks raise what they like
        if is_out_of_memory(error):
            raise
        is_mismatch = isinstance(error, ValueError | RuntimeError | KeyError)
        raise ModelError(_mismatch(adapter, name) if is_mismatch else _unusable(adapter)) from error
    if found.unexpected_keys:
        raise ModelError(_mismatch(adapter, name))
    if missing := [key for key in found.missing_keys if NAME in key.split(".")]:
        raise ModelError(_incomplete(adapter, name, missing))
    if not precision.is_quantized and not _shares_weights(target):
        adapted.merge_and_unload()
    network.eval()


def changes_lm_head(adapter: AdapterFiles) -> bool:
    """Whether the adapter has a part for the language model's head, which then differs from the stored one."""
    return any("lm_head." in key for key in adapter.keys)


def _apply(peft: Any, target: Any, adapter: AdapterFiles, names: WeightNames) -> tuple[Any, Any]:
    """The adapted network, and which keys of the file and of the network have no counterpart."""
    try:
        config = peft.PeftConfig.from_pretrained(str(adapter.folder))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TypeError(f"{type(error).__name__} in the configuration") from error
    config.inference_mode = True
    adapted = peft.PeftModel(target, config, adapter_name=NAME)
    stored = peft.load_peft_weights(str(adapter.folder), device="cpu")
    has_body = hasattr(target, BODY.removesuffix("."))
    weights = {
        PEFTS_PREFIX + (plain if has_body else plain.removeprefix(BODY)): value
        for plain, value in ((names.parameter_name(key), value) for key, value in stored.items())
    }
    return adapted, peft.set_peft_model_state_dict(adapted, weights, adapter_name=NAME)


def _shares_weights(network: Any) -> bool:
    """Whether an adapted layer's weight is another layer's as well, which merging would change with it."""
    owners = Counter(id(weight) for module in network.modules() for weight in module._parameters.values())
    adapted = (module.base_layer for module in network.modules() if hasattr(module, "base_layer"))
    return any(
        owners[id(weight)] > 1 for layer in adapted for weight in layer._parameters.values() if weight is not None
    )


def _refuse_unsupported(adapter: AdapterFiles, precision: Precision) -> None:
    kind = adapter.config.get("peft_type")
    if str(kind).upper() != "LORA":
        raise ModelError(
            f"The adapter {adapter.name!r} is of the type {str(kind)[:40]!r}, which is not put on here; LoRA is, with "
            "DoRA and rsLoRA. Train it as LoRA, or merge it where it was trained and name the result with --model."
        )
    if adapter.config.get("alora_invocation_tokens"):
        raise ModelError(
            f"The adapter {adapter.name!r} is an activated LoRA (aLoRA), which waits for tokens of its own in the "
            "prompt, and prompts here have none. Train it as a plain LoRA."
        )
    if adapter.config.get("use_dora") and precision.name == "int8" and precision.device == "cpu":
        # peft 0.21.2 reads a layer's weight for it and leaves one without its scales, so the next pass raises
        raise ModelError(
            f"The adapter {adapter.name!r} is a DoRA, which int8 on a processor cannot hold. Choose bf16 or int4 with "
            "--precision, or merge it where it was trained and name the result with --model."
        )


def _import_peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError("Adapters need peft, which is not installed: pip install 'peft>=0.17,<1'.") from None
    return peft


def _unusable(adapter: AdapterFiles) -> str:
    return (
        f"The adapter_config.json of the adapter {adapter.name!r} does not say what peft needs. Copy it again from "
        "where the adapter came from, or save the adapter again with peft."
    )


def _mismatch(adapter: AdapterFiles, name: str) -> str:
    trained = f", {adapter.base_model!r} as it says," if adapter.base_model else ""
    way_out = f"Name the model that it was trained on{trained} with --model."
    return f"The adapter {adapter.name!r} does not fit {name}. {way_out}"


def _incomplete(adapter: AdapterFiles, name: str, missing: list[str]) -> str:
    first = missing[0].removeprefix(PEFTS_PREFIX).replace(f".{NAME}", "")
    return (
        f"The adapter {adapter.name!r} does not fit {name}: it fills {len(adapter.keys)} of its weights and lacks "
        f"{len(missing)} ({first}), so it is of a smaller model, or not whole. Name the model that it was trained on "
        "with --model, or save it again with peft."
    )
