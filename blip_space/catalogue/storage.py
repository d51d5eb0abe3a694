"""How a checkpoint's weights are stored: unquantized, in bitsandbytes' 8 or 4 bits, or in an unsupported format.

The headers of the weights decide this, since `config.json` may still name a quantization that was undone. Depends on
names and types of tensors; reads no weights. Sources of the suffixes:
https://huggingface.co/docs/bitsandbytes, https://huggingface.co/docs/transformers/quantization/overview.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from blip_space.catalogue.family import FamilySpec
from blip_space.catalogue.headers import TensorInfo
from blip_space.catalogue.weight_names import WeightNames
from blip_space.errors import ModelError

INT8 = re.compile(r"(.+)\.SCB$")
INT4 = re.compile(r"(.+)\.weight\.(?:absmax|quant_state\.bitsandbytes__(?:nf4|fp4))$")
QUANTIZATION_STATE = re.compile(
    r"\.(?:SCB|weight_format|weight\.(?:(?:nested_)?(?:absmax|quant_map)|quant_state\..+))$"
)
"""Tensors that are stored beside a layer's packed weight, such as its scales."""

LORA = re.compile(r"\.(?:lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)|base_layer)\.")
UNSUPPORTED_FORMATS = {
    "GPTQ, AWQ or AutoRound": re.compile(r"\.(?:qweight|qzeros|g_idx)$"),
    "HQQ": re.compile(r"\.W_q$"),
    "compressed-tensors": re.compile(r"\.weight_packed$"),
    "AQLM": re.compile(r"\.codebooks$"),
    "quanto": re.compile(r"\.weight\._(?:data|scale)$"),
    "FP8": re.compile(r"\.weight_scale(?:_inv)?$"),
}
METHOD_NAMES = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "auto-round": "AutoRound",
    "hqq": "HQQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "bitsandbytes": "bitsandbytes",
}
FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
BUFFER_TYPES = ("I64", "BOOL")
"""The types of positions and masks, which older versions saved with the weights."""

DEFAULT_THRESHOLD = 6.0
"""The default outlier threshold of int8. Source: https://huggingface.co/docs/bitsandbytes."""

BITS = {"int8": 8, "int4": 4}


@dataclass(frozen=True)
class StoredWeights:
    """How the weights are stored. `tensors` is keyed by the names in memory, to which `names` maps the stored names.

    `precision` is int8, int4 or, for unquantized weights, empty; `quant_type` is int8, nf4 or fp4. `stale_quantization`
    is the method of a `quantization_config` if the weights are unquantized. `threshold` is int8's outlier threshold.
    """

    names: WeightNames
    tensors: dict[str, TensorInfo]
    precision: str = ""
    quant_type: str = ""
    quantized_layers: frozenset[str] = frozenset()
    stale_quantization: str = ""
    threshold: float = DEFAULT_THRESHOLD

    @property
    def parameter_counts(self) -> dict[str, int]:
        """The number of elements of each weight after unpacking; a byte holds two of 4 bits."""
        return {
            name: 2 * tensor.nbytes if self.precision == "int4" and name in self._packed else tensor.count
            for name, tensor in self.tensors.items()
            if not self._is_quantization_state(name)
        }

    @property
    def loaded_bytes(self) -> int:
        """The memory of the loaded weights: quantized layers as stored, all others 2 bytes per element."""
        return sum(
            tensor.nbytes if name in self._packed or self._is_quantization_state(name) else 2 * tensor.count
            for name, tensor in self.tensors.items()
        )

    @cached_property
    def _packed(self) -> frozenset[str]:
        return frozenset(f"{layer}.weight" for layer in self.quantized_layers)

    def _is_quantization_state(self, name: str) -> bool:
        return bool(self.quantized_layers) and bool(QUANTIZATION_STATE.search(name))


def detect_storage(
    headers: Mapping[str, TensorInfo], config: Mapping[str, Any], family: FamilySpec, *, name: str
) -> StoredWeights:
    """How the weights of the model `name` are stored. Raises `ModelError` if their format is not supported."""
    names = WeightNames(headers, family)
    tensors = {names.parameter_name(key): tensor for key, tensor in headers.items()}
    method = _configured_method(config)
    _check_merged(tensors, name=name)
    for precision, pattern in (("int8", INT8), ("int4", INT4)):
        layers = frozenset(match[1] for key in tensors if (match := pattern.match(key)))
        if layers:
            _check_usable(tensors, precision, method, name=name)
            is_fp4 = any(key.endswith("bitsandbytes__fp4") for key in tensors)
            quant_type = "int8" if precision == "int8" else "fp4" if is_fp4 else "nf4"
            return StoredWeights(names, tensors, precision, quant_type, layers, threshold=_threshold(config))
    if tensors and (detected := _unsupported_format(tensors)):
        raise ModelError(_unsupported_message(name, METHOD_NAMES.get(method, method) or detected))
    return StoredWeights(names, tensors, stale_quantization=method if tensors else "")


def _configured_method(config: Mapping[str, Any]) -> str:
    """The quantization method in `config.json`, of the model or of its language model; empty if there is none."""
    for part in (config, config.get("text_config")):
        entry = part.get("quantization_config") if isinstance(part, Mapping) else None
        if isinstance(entry, Mapping):
            # the first versions with bitsandbytes did not write the method
            return str(entry.get("quant_method") or "bitsandbytes")[:40]
    return ""


def _threshold(config: Mapping[str, Any]) -> float:
    entry = config.get("quantization_config")
    value = entry.get("llm_int8_threshold") if isinstance(entry, Mapping) else None
    return float(value) if isinstance(value, int | float) else DEFAULT_THRESHOLD


def _unsupported_format(tensors: Mapping[str, TensorInfo]) -> str:
    """The name of an unsupported format; empty if all weights are unquantized."""
    for method, pattern in UNSUPPORTED_FORMATS.items():
        if any(pattern.search(key) for key in tensors):
            return method
    types = {tensor.dtype: None for key, tensor in tensors.items() if not key.endswith("position_ids")}
    unknown = [dtype for dtype in types if dtype not in (*FLOAT_TYPES, *BUFFER_TYPES)]
    return f"an unknown format (type {unknown[0]})" if unknown else ""


def _check_merged(tensors: Mapping[str, TensorInfo], *, name: str) -> None:
    if lora := next((key for key in tensors if LORA.search(f".{key}")), None):
        raise ModelError(
            f"The weights of {name} hold a LoRA adapter that was not merged ({lora}). Load it where it was trained, "
            "call merge_and_unload() and save it again with save_pretrained()."
        )


def _check_usable(tensors: Mapping[str, TensorInfo], precision: str, method: str, *, name: str) -> None:
    if not method:
        raise ModelError(
            f"The weights of {name} are stored in {BITS[precision]} bits by bitsandbytes, and its config.json has no "
            "quantization_config. Copy config.json from where the weights came from, or choose the original checkpoint."
        )
    # bitsandbytes 0.50.2 reorders the scales in the first forward pass on AVX512-BF16, and saves them reordered
    if any(key.endswith(".weight.absmax") and tensor.dtype == "BF16" for key, tensor in tensors.items()):
        raise ModelError(
            f"{name} is damaged: its 4-bit weights were saved after it had run on a CPU with AVX512-BF16, where "
            "bitsandbytes reorders the scales. Save it again right after quantizing, before it generates anything; or "
            "load the original checkpoint with --precision int4."
        )


def _unsupported_message(name: str, format_name: str) -> str:
    return (
        f"{name} is stored in {format_name}, which is not supported; unquantized weights and bitsandbytes' 8 and 4 "
        "bits are. Choose the original checkpoint, with --precision int8 or int4 if memory is short."
    )
