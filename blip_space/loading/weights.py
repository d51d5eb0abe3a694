"""A network of its configuration and its weights, every number from the checkpoint, whatever wrote it.

Takes off the prefix of all weights, reads quantised ones as they are stored, and leaves adapters in the folder alone.
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
"""Where `from_pretrained` looks for an adapter, which it would put on unasked if it lay beside the weights."""

OF_ONE_PLACE = "Its files belong to different checkpoints; copy config.json and the weights from the same place"


def load_hf_model(
    folder: Path, config: Any, stored: StoredWeights, family: Family, *, name: str, precision: Precision
) -> Any:
    """The network on its one device, in evaluation mode, in the given precision.

    `config` is changed where the weights are quantised. Raises `ModelError`, which calls the model `name`.
    """
    if stored.precision:
        config.quantization_config = stored_quantization_config(stored, precision, family)
    model_class = family.model_class()
    kind = without_fp32_modules(model_class) if stored.precision else model_class
    try:
        network, found = kind.from_pretrained(
            folder,
            config=config,
            dtype=precision.dtype,
            quantization_config=None if stored.precision else quantization_config(precision, family),
            device_map={"": precision.device},  # "auto" would part a model on several GPUs
            key_mapping=stored.names.key_mapping or None,
            adapter_kwargs=NO_ADAPTER,
            generation_config=_read_generation(folder, config, name=name),
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are listed, and refused below
            output_loading_info=True,
        )
    except ImportError as error:
        raise ModelError(
            f"{name} in {precision.name} needs bitsandbytes and accelerate, which are not installed: "
            "pip install bitsandbytes accelerate."
        ) from error
    except Exception as error:  # the configuration is not ours, and building and reading raise what they like
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"The weights of {name} cannot be read into the model that its config.json describes. {OF_ONE_PLACE}."
        ) from error
    _check_loading_info(network, found, stored, name=name)
    disable_avx512_packing(network)
    return network


def _read_generation(folder: Path, config: Any, *, name: str) -> GenerationConfig:
    """The folder's stop tokens, or else those of the language model's configuration; everything else of
    `generation_config.json` is the caller's to choose.

    A file that cannot be read is passed over.
    """
    try:
        named = read_json(folder / "generation_config.json", name=name).get("eos_token_id")
    except ModelError as error:
        log.info("passed over: %s", error)
        named = None
    stops = _tokens(named) or _tokens(getattr(config.text_config, "eos_token_id", None))
    return GenerationConfig(eos_token_id=stops or None)


def _tokens(named: Any) -> list[int]:
    """One token or several, whatever else may stand there left out."""
    return [token for token in (named if isinstance(named, list) else [named]) if type(token) is int]


def _check_loading_info(network: Any, found: dict[str, Any], stored: StoredWeights, *, name: str) -> None:
    """Raise `ModelError` when a part would be newly initialised, or when weights hold more layers than the config."""
    parts = {_layer_pattern(key) for key in network.state_dict()}
    beyond = sorted(key for key in found["unexpected_keys"] if _layer_pattern(key) in parts)
    mismatched = sorted(row[0] for row in found["mismatched_keys"])
    for kind, keys in (
        ("are missing", sorted(found["missing_keys"])),
        ("have another shape than its config.json says", mismatched),
        ("have no place in the model that its config.json describes", beyond),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            instead = _held_instead(found, stored) if kind == "are missing" else ""
            raise ModelError(f"The weights of {name} do not fit: {keys[0]}{more} {kind}{instead}. {OF_ONE_PLACE}.")
    if found["unexpected_keys"]:
        log.info("%s: %d stored tensors are of no use here", name, len(found["unexpected_keys"]))


def _held_instead(found: dict[str, Any], stored: StoredWeights) -> str:
    """What the weights hold in the place of what is missing."""
    held = sorted(found["unexpected_keys"])
    if held:
        return f"; the weights hold {held[0]} and the like, which the model does not have"
    return f" among the {len(stored.tensors)} that are stored"


def _layer_pattern(key: str) -> str:
    return re.sub(r"\d+", "*", key)
