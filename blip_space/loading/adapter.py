"""Applies a LoRA adapter to a loaded checkpoint: to the language model, the vision encoder, the Q-Former or all.

The only module that imports peft. If an adapter was trained on the full model, its weight names contain the model's
parts; if it was trained on the language model alone, they do not.
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

ADAPTER_NAME = "default"
PEFT_PREFIX = "base_model.model."
BODY = "model."
"""The prefix of weight names in a language model that includes its output layer."""


def apply_lora(
    hf_model: Any, adapter: AdapterFiles, family: Family, family_spec: FamilySpec, *, name: str, precision: Precision
) -> None:
    """Apply the adapter to `hf_model`, which users know as `name`. Raises `ModelError` if some weight does not fit.

    The adapter is merged into unquantized weights, so it takes no extra time; for quantized layers it stays separate.
    """
    peft = _import_peft()
    _check_supported(adapter, precision)
    names = WeightNames(adapter.keys, family_spec)
    is_of_full_model = any(names.parameter_name(key).startswith(family_spec.weight_prefixes) for key in adapter.keys)
    target = hf_model if is_of_full_model else family.language_model(hf_model)
    for flag in ("is_loaded_in_8bit", "is_loaded_in_4bit"):  # peft reads these flags from the module that it adapts
        setattr(target, flag, getattr(hf_model, flag, False))
    try:
        adapted, result = _apply(peft, target, adapter, names)
    except Exception as error:  # peft's checks raise exceptions of any type
        if is_out_of_memory(error):
            raise
        if isinstance(error, ValueError | RuntimeError | KeyError):
            raise ModelError(_mismatch_message(adapter, name)) from error
        raise ModelError(
            f"The adapter_config.json of the adapter {adapter.name!r} lacks what peft needs. Copy it again from where "
            "the adapter came from, or save the adapter again with peft."
        ) from error
    if result.unexpected_keys:
        raise ModelError(_mismatch_message(adapter, name))
    if missing := [key for key in result.missing_keys if ADAPTER_NAME in key.split(".")]:
        raise ModelError(_incomplete_message(adapter, name, missing))
    if not precision.is_quantized and not _shares_weights(target):
        adapted.merge_and_unload()
    hf_model.eval()


def changes_lm_head(adapter: AdapterFiles) -> bool:
    """Whether the adapter changes the language model's head, so that the head differs from the stored one."""
    return any("lm_head." in key for key in adapter.keys)


def _apply(peft: Any, target: Any, adapter: AdapterFiles, names: WeightNames) -> tuple[Any, Any]:
    """The adapted model, and peft's result with the keys that only the file or only the model has."""
    try:
        config = peft.PeftConfig.from_pretrained(str(adapter.folder))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise TypeError(f"{type(error).__name__} in the configuration") from error
    config.inference_mode = True
    adapted = peft.PeftModel(target, config, adapter_name=ADAPTER_NAME)
    stored = peft.load_peft_weights(str(adapter.folder), device="cpu")
    has_body = hasattr(target, BODY.removesuffix("."))
    weights = {
        PEFT_PREFIX + (name if has_body else name.removeprefix(BODY)): value
        for name, value in ((names.parameter_name(key), value) for key, value in stored.items())
    }
    return adapted, peft.set_peft_model_state_dict(adapted, weights, adapter_name=ADAPTER_NAME)


def _shares_weights(hf_model: Any) -> bool:
    """Whether an adapted layer shares its weight with another layer, which merging would change too."""
    owners = Counter(id(weight) for module in hf_model.modules() for weight in module._parameters.values())
    adapted = (module.base_layer for module in hf_model.modules() if hasattr(module, "base_layer"))
    return any(
        owners[id(weight)] > 1 for layer in adapted for weight in layer._parameters.values() if weight is not None
    )


def _check_supported(adapter: AdapterFiles, precision: Precision) -> None:
    peft_type = str(adapter.config.get("peft_type"))
    if peft_type.upper() != "LORA":
        raise ModelError(
            f"The adapter {adapter.name!r} is of the type {peft_type[:40]!r}, which is not supported; LoRA is, with "
            "DoRA and rsLoRA. Train it as LoRA, or merge it where it was trained and pass the result with --model."
        )
    if adapter.config.get("alora_invocation_tokens"):
        raise ModelError(
            f"The adapter {adapter.name!r} is an activated LoRA (aLoRA), which needs invocation tokens in the "
            "prompt, and prompts here have none. Train it as a plain LoRA."
        )
    if adapter.config.get("use_dora") and precision.name == "int8" and precision.device == "cpu":
        # for DoRA peft 0.21.2 reads a layer's weight and leaves it without scales, so the next forward pass raises
        raise ModelError(
            f"The adapter {adapter.name!r} is a DoRA, which int8 on a CPU does not support. Choose bf16 or int4 with "
            "--precision, or merge it where it was trained and pass the result with --model."
        )


def _import_peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError("Adapters need peft, which is not installed: pip install 'peft>=0.17,<1'.") from None
    return peft


def _mismatch_message(adapter: AdapterFiles, name: str) -> str:
    trained = f" (its configuration names {adapter.base_model!r})" if adapter.base_model else ""
    way_out = f"Pass the model that it was trained on{trained} with --model."
    return f"The adapter {adapter.name!r} does not fit {name}. {way_out}"


def _incomplete_message(adapter: AdapterFiles, name: str, missing: list[str]) -> str:
    first = missing[0].removeprefix(PEFT_PREFIX).replace(f".{ADAPTER_NAME}", "")
    return (
        f"The adapter {adapter.name!r} does not fit {name}: {len(adapter.keys)} of its tensors match and "
        f"{len(missing)} are missing (first: {first}). It is incomplete, or was trained on a smaller model. Pass that "
        "model with --model, or save the adapter again with peft."
    )
