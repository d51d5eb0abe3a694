"""Configures bitsandbytes to quantize only the language model's layers, or exactly the layers stored quantized.

mBLIP's and BLIP-2's papers quantize the language model only. The Hugging Face cards say that this is impossible, but it
works if our own list of modules that keep 16 bits replaces the library's. A checkpoint that is stored in 8 or 4 bits is
loaded as it is stored, whichever of its layers are quantized.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import BitsAndBytesConfig

from blip_space.catalogue.storage import StoredWeights
from blip_space.models.family import Family
from blip_space.models.interface import Precision

WEIGHTS_PER_SCALE, BLOCK_OUTPUTS = 64, 32


def without_fp32_modules(model_class: type[Any]) -> type[Any]:
    """A copy of the class without transformers' list of modules to keep in fp32, so that exactly the stored layers are
    quantized. The list differs between versions."""
    # transformers finds a class's renamed weights by the name and the module of the class
    origin = {"__module__": model_class.__module__, "__doc__": model_class.__doc__}
    return type(model_class.__name__, (model_class,), {**origin, "_keep_in_fp32_modules": None})


def quantization_config(precision: Precision, family: Family) -> Any:
    """The `quantization_config` for `from_pretrained`, or None if the precision is unquantized."""
    unquantized = [rf"(?:.*\.)?{re.escape(name)}" for name in family.unquantized_modules]  # at any depth
    if precision.name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=unquantized)
    if precision.name == "int4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=precision.dtype,
            llm_int8_skip_modules=unquantized,
        )
    return None


def stored_quantization_config(stored: StoredWeights, precision: Precision, family: Family) -> dict[str, Any]:
    """The `quantization_config` that loads quantized weights as they are stored."""
    settings = {"quant_method": "bitsandbytes", "llm_int8_skip_modules": _unquantized_layers(stored, family)}
    if stored.precision == "int8":
        return settings | {"load_in_8bit": True, "llm_int8_threshold": stored.threshold}
    return settings | {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": stored.quant_type,
        "bnb_4bit_compute_dtype": str(precision.dtype).removeprefix("torch."),
        "bnb_4bit_use_double_quant": any(key.endswith(".nested_absmax") for key in stored.tensors),
        "bnb_4bit_quant_storage": _storage_type(stored),
    }


def disable_avx512_packing(hf_model: Any) -> None:
    """Turn off bitsandbytes' AVX512-BF16 packing for layers of unsupported shapes, on which 0.50.2 raises in the first
    forward pass: inputs that are no multiple of `WEIGHTS_PER_SCALE`, or outputs that are none of `BLOCK_OUTPUTS`."""
    for layer in hf_model.modules():
        is_packed = hasattr(layer, "support_avx512bf16_for_cpu")
        if is_packed and (layer.in_features % WEIGHTS_PER_SCALE or layer.out_features % BLOCK_OUTPUTS):
            layer.support_avx512bf16_for_cpu = False


def _unquantized_layers(stored: StoredWeights, family: Family) -> list[str]:
    """A list with one regular expression for the names of unquantized layers, including a head tied to the embedding.

    It is a single one because transformers tries each expression on every layer, and Python caches at most 512.
    """
    weights = {key for key in (*stored.tensors, *family.lm_head_weights) if key.endswith(".weight")}
    names = {key.removesuffix(".weight") for key in weights}
    return [f"(?:{'|'.join(re.escape(name) for name in sorted(names - stored.quantized_layers))})$"]


def _storage_type(stored: StoredWeights) -> str:
    """The dtype in which packed 4-bit weights are stored: uint8, or what was chosen for training."""
    types = {"U8": "uint8", "BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    layers = stored.quantized_layers
    packed = (tensor for key, tensor in stored.tensors.items() if key.removesuffix(".weight") in layers)
    return next((types[tensor.dtype] for tensor in packed if tensor.dtype in types), "uint8")
