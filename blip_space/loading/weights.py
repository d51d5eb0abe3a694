"""Loads a transformers model from its configuration and weights; no weight may be missing.

Removes prefixes of weight names, loads quantized weights as they are stored, and ignores adapters in the folder.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from blip_space.catalogue.parsing import read_json
from blip_space.catalogue.storage import StoredWeights
from blip_space.errors import ModelError
from blip_space.loading.device_errors import is_device_lost
from blip_space.loading.memory import is_out_of_memory
from blip_space.loading.quantization import (
    disable_avx512_packing,
    quantization_config,
    stored_quantization_config,
    without_fp32_modules,
)
from blip_space.models.family import Family
from blip_space.models.interface import Precision

log = logging.getLogger(__name__)

NO_ADAPTER = {"subfolder": "no-adapter-is-asked-for"}
"""A subfolder that does not exist, since `from_pretrained` would apply an adapter that is beside the weights."""

COPY_BOTH = "Its files belong to different checkpoints; copy config.json and the weights from the same source"


def load_hf_model(
    folder: Path, config: Any, stored: StoredWeights, family: Family, *, name: str, precision: Precision
) -> Any:
    """Load the model, which users know as `name`, on its device and in evaluation mode.

    Changes `config` if the weights are stored quantized. Raises `ModelError` if they do not match `config`.
    """
    model_class = family.model_class()
    if stored.precision:
        config.quantization_config = stored_quantization_config(stored, precision, family)
        model_class = without_fp32_modules(model_class)
    try:
        hf_model, loading_info = model_class.from_pretrained(
            folder,
            config=config,
            dtype=precision.dtype,
            quantization_config=None if stored.precision else quantization_config(precision, family),
            device_map={"": precision.device},  # "auto" would split a model over several GPUs
            key_mapping=stored.names.key_mapping or None,
            adapter_kwargs=NO_ADAPTER,
            generation_config=_load_generation_config(folder, config, name=name),
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # such weights are listed, and refused below
            output_loading_info=True,
        )
    except ImportError as error:
        raise ModelError(
            f"{name} in {precision.name} needs bitsandbytes and accelerate, which are not installed: "
            "pip install bitsandbytes accelerate."
        ) from error
    except Exception as error:  # transformers raises any type
        if is_out_of_memory(error) or is_device_lost(error):
            raise
        raise ModelError(
            f"The weights of {name} cannot be loaded into the model that its config.json describes. {COPY_BOTH}."
        ) from error
    _check_loading_info(hf_model, loading_info, stored, name=name)
    disable_avx512_packing(hf_model)
    return hf_model


def _load_generation_config(folder: Path, config: Any, *, name: str) -> GenerationConfig:
    """A generation config with the folder's stop tokens, or else those in the language model's configuration. All other
    options are set per request. An unreadable file is ignored."""
    try:
        tokens = read_json(folder / "generation_config.json", name=name).get("eos_token_id")
    except ModelError as error:
        log.info("ignored: %s", error)
        tokens = None
    stops = _token_ids(tokens) or _token_ids(getattr(config.text_config, "eos_token_id", None))
    return GenerationConfig(eos_token_id=stops or None)


def _token_ids(value: Any) -> list[int]:
    """The valid ids in `value`, which should be one id or a list of ids."""
    return [token for token in (value if isinstance(value, list) else [value]) if type(token) is int]


def _check_loading_info(hf_model: Any, loading_info: dict[str, Any], stored: StoredWeights, *, name: str) -> None:
    """Raise `ModelError` if weights are missing or have another shape, or if there are more layers than in the
    configuration."""
    patterns = {_layer_pattern(key) for key in hf_model.state_dict()}
    surplus = sorted(key for key in loading_info["unexpected_keys"] if _layer_pattern(key) in patterns)
    mismatched = sorted(entry[0] for entry in loading_info["mismatched_keys"])
    for problem, keys in (
        ("are missing", sorted(loading_info["missing_keys"])),
        ("have another shape than in its config.json", mismatched),
        ("are not part of the model that its config.json describes", surplus),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            present = _describe_present(loading_info, stored) if problem == "are missing" else ""
            raise ModelError(f"The weights of {name} do not fit: {keys[0]}{more} {problem}{present}. {COPY_BOTH}.")
    if loading_info["unexpected_keys"]:
        log.info("%s: %d stored tensors are not used", name, len(loading_info["unexpected_keys"]))


def _describe_present(loading_info: dict[str, Any], stored: StoredWeights) -> str:
    """The part of the message about missing weights that says what the file contains instead."""
    unexpected = sorted(loading_info["unexpected_keys"])
    if unexpected:
        return f"; the weights contain {unexpected[0]} and others, which the model does not have"
    return f" among the {len(stored.tensors)} that are stored"


def _layer_pattern(key: str) -> str:
    return re.sub(r"\d+", "*", key)
