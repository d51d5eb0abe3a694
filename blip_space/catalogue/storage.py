"""How a checkpoint's numbers are stored: whole, in bitsandbytes' 8 or 4 bits, or in a form that is not read here.

The headers of the weights decide, since `config.json` may still speak of a quantisation that was undone. Depends on
names and types of tensors; reads no weights. The suffixes are those that the libraries write:
https://huggingface.co/docs/bitsandbytes, https://huggingface.co/docs/transformers/quantization/overview.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blip_space.catalogue.family import FamilySpec
from blip_space.catalogue.headers import TensorInfo
from blip_space.catalogue.weight_names import WeightNames
from blip_space.errors import ModelError

INT8 = re.compile(r"(.+)\.SCB$")
INT4 = re.compile(r"(.+)\.weight\.(?:absmax|quant_state\.bitsandbytes__(?:nf4|fp4))$")
COMPANION = re.compile(r"\.(?:SCB|weight_format|weight\.(?:(?:nested_)?(?:absmax|quant_map)|quant_state\..+))$")
"""What stands beside a layer's packed numbers."""

LORA = re.compile(r"\.(?:lora_(?:A|B|embedding_A|embedding_B|magnitude_vector)|base_layer)\.")
FOREIGN = {
    "GPTQ, AWQ or AutoRound": re.compile(r"\.(?:qweight|qzeros|g_idx)$"),
    "HQQ": re.compile(r"\.W_q$"),
    "compressed-tensors": re.compile(r"\.weight_packed$"),
    "AQLM": re.compile(r"\.codebooks$"),
    "quanto": re.compile(r"\.weight\._(?:data|scale)$"),
    "FP8": re.compile(r"\.weight_scale(?:_inv)?$"),
}
METHODS = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "auto-round": "AutoRound",
    "hqq": "HQQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "bitsandbytes": "bitsandbytes",
}
WHOLE = ("F64", "F32", "F16", "BF16")
COUNTERS = ("I64", "BOOL")
"""Positions and masks that older versions saved beside the weights."""

THRESHOLD = 6.0
"""The default of https://huggingface.co/docs/bitsandbytes."""

BITS = {"int8": 8, "int4": 4}


@dataclass(frozen=True)
class StoredWeights:
    """What the headers say. `tensors` go by the names that the model has for them, `names` knows the stored ones.

    `precision` is int8, int4 or, where the numbers are whole, empty; `kind` is int8, nf4 or fp4. `layers` are the
    quantised ones, `stale_quantization` is the method of a `quantization_config` that speaks of whole numbers. `threshold` is
    what a number has to exceed to be an outlier for int8.
    """

    names: WeightNames
    tensors: dict[str, TensorInfo]
    precision: str = ""
    quant_type: str = ""
    quantized_layers: frozenset[str] = frozenset()
    stale_quantization: str = ""
    threshold: float = THRESHOLD

    @property
    def parameter_counts(self) -> dict[str, int]:
        """How many numbers each weight has in truth: 4 bits are packed two to a byte."""
        return {name: self._count(name) for name in self.tensors if not self._is_companion(name)}

    @property
    def loaded_bytes(self) -> int:
        """What the weights take once loaded: quantised layers as they are stored, all else 2 bytes a number."""
        packed = {f"{layer}.weight" for layer in self.quantized_layers}
        return sum(
            tensor.nbytes if name in packed or self._is_companion(name) else 2 * tensor.count
            for name, tensor in self.tensors.items()
        )

    def _count(self, name: str) -> int:
        tensor = self.tensors[name]
        is_packed = self.precision == "int4" and name.removesuffix(".weight") in self.quantized_layers
        return 2 * tensor.nbytes if is_packed and name.endswith(".weight") else tensor.count

    def _is_companion(self, name: str) -> bool:
        return bool(self.quantized_layers) and bool(COMPANION.search(name))


def detect_storage(
    headers: Mapping[str, TensorInfo], config: Mapping[str, Any], family: FamilySpec, *, name: str
) -> StoredWeights:
    """How the weights of the model `name`, which is of that family, are stored.

    Raises `ModelError` where they are stored in a way that is not read here.
    """
    names = WeightNames(headers, family)
    tensors = {names.parameter_name(key): tensor for key, tensor in headers.items()}
    method = _method(config)
    _refuse_unmerged(tensors, name=name)
    for precision, pattern in (("int8", INT8), ("int4", INT4)):
        layers = frozenset(match[1] for key in tensors if (match := pattern.match(key)))
        if layers:
            _refuse_unusable(tensors, precision, method, name=name)
            kind = _kind(tensors, precision)
            return StoredWeights(names, tensors, precision, kind, layers, threshold=_threshold(config))
    if tensors and (found := _foreign(tensors)):
        raise ModelError(_unread(name, METHODS.get(method, method) or found))
    return StoredWeights(names, tensors, stale_quantization=method if tensors else "")


def _method(config: Mapping[str, Any]) -> str:
    """The method that `config.json` names, for the whole or for the language model; empty where it names none."""
    for part in (config, config.get("text_config")):
        entry = part.get("quantization_config") if isinstance(part, Mapping) else None
        if isinstance(entry, Mapping):
            # bitsandbytes' first entries had no name
            return str(entry.get("quant_method") or "bitsandbytes")[:40]
    return ""


def _threshold(config: Mapping[str, Any]) -> float:
    entry = config.get("quantization_config")
    named = entry.get("llm_int8_threshold") if isinstance(entry, Mapping) else None
    return float(named) if isinstance(named, int | float) else THRESHOLD


def _kind(tensors: Mapping[str, TensorInfo], precision: str) -> str:
    is_fp4 = any(key.endswith("bitsandbytes__fp4") for key in tensors)
    return "int8" if precision == "int8" else "fp4" if is_fp4 else "nf4"


def _foreign(tensors: Mapping[str, TensorInfo]) -> str:
    """The name of another library's form, or of none that is known; empty where all numbers are whole."""
    for method, pattern in FOREIGN.items():
        if any(pattern.search(key) for key in tensors):
            return method
    usual = (*WHOLE, *COUNTERS)
    odd = [row.dtype for key, row in tensors.items() if row.dtype not in usual and not key.endswith("position_ids")]
    return f"an unknown form (numbers of type {odd[0]})" if odd else ""


def _refuse_unmerged(tensors: Mapping[str, TensorInfo], *, name: str) -> None:
    if lora := next((key for key in tensors if LORA.search(f".{key}")), None):
        raise ModelError(
            f"The weights of {name} hold a LoRA adapter that was not merged ({lora}). Load it where it was trained, "
            "call merge_and_unload() and save it again with save_pretrained()."
        )


def _refuse_unusable(tensors: Mapping[str, TensorInfo], precision: str, method: str, *, name: str) -> None:
    if not method:
        raise ModelError(
            f"The weights of {name} are stored in {BITS[precision]} bits by bitsandbytes, and its config.json has no "
            "quantization_config. Copy config.json from where the weights came from, or choose the original checkpoint."
        )
    # bitsandbytes 0.50.2 reorders the scales in the first forward pass on AVX512-BF16, and saves them as they are then
    if any(key.endswith(".weight.absmax") and tensor.dtype == "BF16" for key, tensor in tensors.items()):
        raise ModelError(
            f"{name} was saved in 4 bits after it had answered on a processor with AVX512-BF16, which reorders its "
            "scales, so it would write noise. Save it again before its first answer, or choose the original "
            "checkpoint with --precision int4."
        )


def _unread(name: str, found: str) -> str:
    return (
        f"{name} is stored in the form of {found}, which is not read here; whole numbers and bitsandbytes' 8 and 4 "
        "bits are. Choose the original checkpoint, with --precision int8 or int4 where memory is short."
    )
