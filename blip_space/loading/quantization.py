"""Configures bitsandbytes: the language model's layers only, or the layers that are stored quantized.

mBLIP's and BLIP-2's papers quantize the language model only; the Hugging Face cards say that this is impossible. It
works with a list of the modules that keep 16 bits, which replaces the library's own. A checkpoint that is stored in 8
or 4 bits is loaded as it is stored, whichever of its layers are quantized.
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
    """The class without the library's list of modules in fp32, which differs between versions, so that exactly the
    stored layers are quantized."""
    # transformers finds the older names of the weights by the class's name and module
    origin = {"__module__": model_class.__module__, "__doc__": model_class.__doc__}
    return type(model_class.__name__, (model_class,), {**origin, "_keep_in_fp32_modules": None})


def quantization_config(precision: Precision, family: Family) -> Any:
    """The argument of `from_pretrained`, or None where nothing is quantized."""
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
    """Turn off bitsandbytes' AVX512-BF16 packing for layers of unsupported shapes: whose inputs are no multiple of the
    weights per scale, or whose outputs do not fill its blocks (0.50.2 raises in the first forward pass)."""
    for layer in hf_model.modules():
        is_packed = hasattr(layer, "support_avx512bf16_for_cpu")
        if is_packed and (layer.in_features % WEIGHTS_PER_SCALE or layer.out_features % BLOCK_OUTPUTS):
            layer.support_avx512bf16_for_cpu = False


def _unquantized_layers(stored: StoredWeights, family: Family) -> list[str]:
    """One expression for the layers that are not quantized: those in the file, and a head tied to the embedding.

    It is one because transformers tries each on every layer, and Python caches at most 512.
    """
    weights = {key for key in (*stored.tensors, *family.lm_head_weights) if key.endswith(".weight")}
    names = {key.removesuffix(".weight") for key in weights}
    return [f"(?:{'|'.join(re.escape(name) for name in sorted(names - stored.quantized_layers))})$"]


def _storage_type(stored: StoredWeights) -> str:
    """The type of the tensors with packed weights: bytes, or another one that training required."""
    types = {"U8": "uint8", "BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    layers = stored.quantized_layers
    packed = (tensor for key, tensor in stored.tensors.items() if key.removesuffix(".weight") in layers)
    return next((types[tensor.dtype] for tensor in packed if tensor.dtype in types), "uint8")
