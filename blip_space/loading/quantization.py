"""Fewer bits for the language model's layers, and for nothing else; or what a checkpoint's own layers are stored in.

mBLIP's and BLIP-2's papers quantise the language model only; the Hugging Face cards say that it cannot be done. It can:
the parts that keep their 16 bits are named, which takes the place of the library's own list. A checkpoint that is
stored in 8 or 4 bits is loaded as it is stored, whichever of its layers those are.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import BitsAndBytesConfig

from blip_space.catalogue.storage import StoredWeights
from blip_space.models.family import Family
from blip_space.models.interface import Precision

SHARING, BLOCK_OUTPUTS = 64, 32


def without_fp32_modules(model_class: type[Any]) -> type[Any]:
    """The class of a network whose layers are quantised exactly where they are in the file: the library's own list of
    parts that stay whole, which differs between versions, does not count."""
    # transformers knows by the class's name and module what the weights were called before
    origin = {"__module__": model_class.__module__, "__doc__": model_class.__doc__}
    return type(model_class.__name__, (model_class,), {**origin, "_keep_in_fp32_modules": None})


def quantization_config(precision: Precision, family: Family) -> Any:
    """What `from_pretrained` is told, or None where nothing is quantised."""
    kept = [rf"(?:.*\.)?{re.escape(name)}" for name in family.unquantized_modules]  # wherever in the network it stands
    if precision.name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    if precision.name == "int4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=precision.dtype,
            llm_int8_skip_modules=kept,
        )
    return None


def stored_quantization_config(stored: StoredWeights, precision: Precision, family: Family) -> dict[str, Any]:
    """The `quantization_config` that reads quantised weights as they are stored."""
    settings = {
        "quant_method": "bitsandbytes",
        "llm_int8_skip_modules": _whole_layers(stored, family),
    }
    if stored.precision == "int8":
        return settings | {"load_in_8bit": True, "llm_int8_threshold": stored.threshold}
    return settings | {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": stored.quant_type,
        "bnb_4bit_compute_dtype": str(precision.dtype).removeprefix("torch."),
        "bnb_4bit_use_double_quant": any(key.endswith(".nested_absmax") for key in stored.tensors),
        "bnb_4bit_quant_storage": _packed_in(stored),
    }


def disable_avx512_packing(network: Any) -> None:
    """Keep bitsandbytes from packing, for processors with AVX512-BF16, layers that its packing cannot hold: those
    whose width is no multiple of the numbers that share a scale, or whose outputs do not fill its blocks (0.50.2 raises
    in the first forward)."""
    for layer in network.modules():
        is_packed = hasattr(layer, "support_avx512bf16_for_cpu")
        if is_packed and (layer.in_features % SHARING or layer.out_features % BLOCK_OUTPUTS):
            layer.support_avx512bf16_for_cpu = False


def _whole_layers(stored: StoredWeights, family: Family) -> list[str]:
    """One expression for the layers that are not quantised: those of the file, and a head that shares the embedding's.

    It is one, since transformers tries each on every layer, and Python remembers no more than 512.
    """
    weights = {key for key in (*stored.tensors, *family.lm_head_weights) if key.endswith(".weight")}
    names = {key.removesuffix(".weight") for key in weights}
    return [f"(?:{'|'.join(re.escape(name) for name in sorted(names - stored.quantized_layers))})$"]


def _packed_in(stored: StoredWeights) -> str:
    """The type of the tensors that hold packed numbers: bytes, or another where training wanted it."""
    types = {"U8": "uint8", "BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    found = (tensor for key, tensor in stored.tensors.items() if key.removesuffix(".weight") in stored.quantized_layers)
    return next((types[tensor.dtype] for tensor in found if tensor.dtype in types), "uint8")
