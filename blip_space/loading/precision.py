"""Which numbers a model computes with, and why.

Pure decisions, each with its reason for the log and the page. Only the language model is quantised, as in the papers;
everything else keeps 16 bits, or 32 where a GPU has none that do not overflow. Facts: fp16 overflows in T5 (https://github.com/huggingface/transformers/issues/20287),
and the checkpoints of BLOOM, T5 and mT5 were trained in bf16.
"""

from __future__ import annotations

import torch

from blip_space.catalogue import PRECISIONS, ModelSpec
from blip_space.catalogue.spec import UNQUANTIZED_BYTES
from blip_space.catalogue.storage import BITS
from blip_space.errors import ModelError
from blip_space.loading.device import Device
from blip_space.models.interface import Precision

SMALL_PARAMETERS = 500_000_000
"""Below it fp32 costs little, and greedy answers do not change with the batch as they do in bf16."""

QUANTISED = ("int8", "int4")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_precision(wanted: str, spec: ModelSpec, device: Device, *, free: int | None) -> Precision:
    """The precision for a model on that device, `auto` decided by what computes well there and fits into `free` bytes.

    Raises `ModelError` when there is no such precision, or not for this model or device.
    """
    if spec.stored_precision and wanted in ("auto", spec.stored_precision):
        return _decided(spec.stored_precision, spec, device, _as_stored(spec, device))
    if wanted != "auto":
        return _decided(wanted, spec, device, _as_asked(wanted, spec, device))
    if spec.parameters < SMALL_PARAMETERS:
        reason = "the model is small, and in fp32 an answer does not depend on its neighbours"
        return _decided("fp32", spec, device, reason)
    first, reason = _best(spec, device)
    for name in (first, *_smaller(first, device)):
        if fits(spec, name, free, device):
            told = reason if name == first else f"{first} needs {spec.memory_gb[first]:g} GB and {_told(free)} are free"
            return _decided(name, spec, device, told)
    return _decided(first, spec, device, reason)


def fits(spec: ModelSpec, precision: str, free: int | None, device: Device | None = None) -> bool:
    """Whether the weights alone fit into so many bytes of the device; yes, where nobody knows."""
    return free is None or needed_gb(spec, precision, device) * 1e9 <= free


def needed_gb(spec: ModelSpec, precision: str, device: Device | None = None) -> float:
    """The weights' size in 10^9 bytes: `spec.memory_gb`, and more where what is not quantised is kept in fp32."""
    is_wide = device is not None and precision in QUANTISED and _dtype(precision, spec, device) == torch.float32
    more = (
        (spec.parameters - spec.quantized_parameters) * (4.0 - UNQUANTIZED_BYTES[precision]) / 1e9 if is_wide else 0.0
    )
    return float(f"{spec.memory_gb[precision] + more:.3g}")


def supported_precisions(spec: ModelSpec, device: Device) -> tuple[str, ...]:
    """The precisions that the model can have on the device."""
    return tuple(name for name in spec.precisions if name not in QUANTISED or device.kind != "mps")


def _best(spec: ModelSpec, device: Device) -> tuple[str, str]:
    if device.has_bf16:
        where = "this processor" if device.kind == "cpu" else "this GPU"
        return "bf16", f"the model is large, and {where} computes in bf16"
    if device.kind == "cpu":
        return "fp32", "this processor does not compute in bf16 (no AVX512-BF16 or AMX)"
    if spec.language_model.overflows_in_fp16:
        return "fp32", "this GPU does not compute in bf16, and in fp16 this model overflows"
    return "fp16", "this GPU does not compute in bf16"


def _smaller(first: str, device: Device) -> tuple[str, ...]:
    """What takes less memory, best first."""
    if device.kind == "mps":
        return ("bf16",) if first == "fp32" and device.has_bf16 else ()
    return ("bf16", *QUANTISED) if first == "fp32" and device.kind == "cpu" else QUANTISED


def _as_stored(spec: ModelSpec, device: Device) -> str:
    """The reason, or a `ModelError`."""
    if not supported_precisions(spec, device):
        raise ModelError(f"{_stored_so(spec)}, which cannot be had on Apple's GPU. Choose the original checkpoint.")
    return f"the checkpoint is stored in {BITS[spec.stored_precision]} bits"


def _stored_so(spec: ModelSpec) -> str:
    return f"{spec.name} is stored in {BITS[spec.stored_precision]} bits"


def _as_asked(wanted: str, spec: ModelSpec, device: Device) -> str:
    """The reason, or a `ModelError`."""
    if wanted not in PRECISIONS:
        raise ModelError(f"There is no precision {str(wanted)[:40]!r}. Choose auto, {_listed(PRECISIONS)}.")
    if spec.stored_precision:
        raise ModelError(
            f"{_stored_so(spec)}, so it cannot be had in {wanted}. Choose {spec.stored_precision} (or auto), or the original "
            "checkpoint."
        )
    if wanted not in spec.precisions:
        raise ModelError(
            f"{spec.name} cannot compute in fp16: the layers of its language model overflow, and its answers would be "
            f"noise. Choose {_listed(spec.precisions)}."
        )
    if wanted not in supported_precisions(spec, device):
        raise ModelError(
            f"{wanted} cannot be had on Apple's GPU. Choose {_listed(supported_precisions(spec, device))}."
        )
    if wanted in QUANTISED and device.kind == "cpu" and device.has_bf16:
        return "as asked; it saves memory and, on a processor that computes in bf16, time, after a longer load"
    if wanted in QUANTISED and device.kind == "cpu":
        return "as asked; on this processor it saves memory, not time"
    if wanted == "fp16" and spec.language_model.trained_in_bf16:
        return "as asked, though its language model was trained in bf16 and may overflow in fp16"
    if wanted == "bf16" and not device.has_bf16:
        return "as asked, though this processor computes bf16 slowly"
    return "as asked"


def _decided(name: str, spec: ModelSpec, device: Device, reason: str) -> Precision:
    return Precision(name, device.name, reason, _dtype(name, spec, device))


def _dtype(name: str, spec: ModelSpec, device: Device) -> torch.dtype:
    """What is computed in. Beside quantised layers that is bf16 where the device has it, and on a processor; an older
    GPU would only imitate it, so there it is fp16, or fp32 where fp16 overflows."""
    if name in _DTYPES:
        return _DTYPES[name]
    if device.has_bf16 or device.kind == "cpu":
        return torch.bfloat16
    return torch.float32 if spec.language_model.overflows_in_fp16 else torch.float16


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _told(free: int | None) -> str:
    return f"{(free or 0) / 1e9:.1f} GB"
