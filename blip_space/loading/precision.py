"""Selects the precision in which a model computes, with a reason that the log and the page show.

Pure functions. Only the language model is quantized, as in the papers; all other parts keep 16 bits, or 32 bits on a
GPU without bf16 if the model overflows in fp16. Sources: fp16 overflows in T5
(https://github.com/huggingface/transformers/issues/20287); BLOOM, T5 and mT5 were trained in bf16.
"""

from __future__ import annotations

import torch

from blip_space.catalogue import PRECISIONS, ModelSpec
from blip_space.catalogue.families import join_with_or
from blip_space.catalogue.spec import UNQUANTIZED_BYTES
from blip_space.catalogue.storage import BITS
from blip_space.errors import ModelError
from blip_space.loading.device import Device
from blip_space.models.interface import Precision
from blip_space.reasons import Reason

SMALL_PARAMETERS = 500_000_000
"""Smaller models use fp32: it costs little, and unlike in bf16 greedy answers do not depend on the batch."""

QUANTIZED = ("int8", "int4")

ANSWER_BYTES, ANSWER_SHARE = 1_200_000_000, 0.15
"""What answers need on a GPU beside the weights, at least, in bytes and as a share of the weights: keys and values of
several rows, the activations of a prefill, workspaces of libraries, and CUDA graphs."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_precision(requested: str, spec: ModelSpec, device: Device, *, free: int | None) -> Precision:
    """The precision for a model on `device`; `auto` is the best that is fast there and fits into `free` bytes.

    Raises `ModelError` if there is no such precision, or if the model or the device does not support it.
    """
    if spec.stored_precision and requested in ("auto", spec.stored_precision):
        return _build_precision(spec.stored_precision, spec, device, _check_stored(spec, device))
    if requested != "auto":
        return _build_precision(requested, spec, device, _check_requested(requested, spec, device))
    if spec.parameters < SMALL_PARAMETERS:
        reason = Reason("the model is small, and in fp32 answers do not depend on the batch", "small")
        return _build_precision("fp32", spec, device, reason)
    best, reason = _best_precision(spec, device)
    names = (best, *_fallbacks(best, device))
    fitting = [name for name in names if _fits_with_answers(spec, name, free, device)]
    fitting = fitting or [name for name in reversed(names) if fits(spec, name, free, device)]
    if not fitting or fitting[0] == best:
        return _build_precision(best, spec, device, reason)
    return _build_precision(fitting[0], spec, device, _lack_of_memory(best, spec, device, free or 0))


def _lack_of_memory(best: str, spec: ModelSpec, device: Device, free: int) -> Reason:
    beside, needed = " beside its answers" if device.kind == "cuda" else "", spec.memory_gb[best]
    sentence = f"{best} needs {needed:g} GB{beside} and {free / 1e9:.1f} GB are free"
    return Reason(sentence, "memory", precision=best, needed=needed, free=round(free / 1e9, 1))


def fits(spec: ModelSpec, precision: str, free: int | None, device: Device | None = None) -> bool:
    """Whether the weights alone fit into `free` bytes of the device's memory; True if `free` is None."""
    return free is None or needed_gb(spec, precision, device) * 1e9 <= free


def _fits_with_answers(spec: ModelSpec, precision: str, free: int | None, device: Device) -> bool:
    """Whether `auto` may choose it: on a GPU, whose memory nothing else may extend, with room for what answers take."""
    if free is None or device.kind != "cuda":
        return fits(spec, precision, free, device)
    weights = needed_gb(spec, precision, device) * 1e9
    return weights + max(ANSWER_BYTES, weights * ANSWER_SHARE) <= free


def needed_gb(spec: ModelSpec, precision: str, device: Device | None = None) -> float:
    """The size of the weights in 10^9 bytes. Exceeds `spec.memory_gb` if int8 or int4 keep other weights in fp32."""
    uses_fp32 = device is not None and precision in QUANTIZED and _dtype(precision, spec, device) == torch.float32
    more = (
        (spec.parameters - spec.quantized_parameters) * (4.0 - UNQUANTIZED_BYTES[precision]) / 1e9 if uses_fp32 else 0.0
    )
    return float(f"{spec.memory_gb[precision] + more:.3g}")


def supported_precisions(spec: ModelSpec, device: Device) -> tuple[str, ...]:
    """The precisions of the model that the device supports."""
    return tuple(name for name in spec.precisions if name not in QUANTIZED or device.kind != "mps")


def _best_precision(spec: ModelSpec, device: Device) -> tuple[str, Reason]:
    processor = _processor(device)
    if device.has_bf16:
        sentence = f"the model is large, and this {processor} computes in bf16"
        return "bf16", Reason(sentence, "large", processor=processor)
    if device.kind == "cpu":
        return "fp32", Reason("this CPU does not compute in bf16 (no AVX512-BF16 or AMX)", "cpu_without_bf16")
    if spec.language_model.overflows_in_fp16:
        sentence = "this GPU does not compute in bf16, and in fp16 this model overflows"
        return "fp32", Reason(sentence, "gpu_overflow")
    return "fp16", Reason("this GPU does not compute in bf16", "gpu_without_bf16")


def _processor(device: Device) -> str:
    return "CPU" if device.kind == "cpu" else "GPU"


def _fallbacks(best: str, device: Device) -> tuple[str, ...]:
    """The precisions that need less memory than `best`, the best one first."""
    if device.kind == "mps":
        return ("bf16",) if best == "fp32" and device.has_bf16 else ()
    if device.kind == "cuda":
        return ("int4",)  # in int8 a step reads and writes more than in bf16, since it dequantizes the weights
    return ("bf16", *QUANTIZED) if best == "fp32" else QUANTIZED


def _check_stored(spec: ModelSpec, device: Device) -> Reason:
    """The reason for using the stored precision. Raises `ModelError` if the device does not support it."""
    bits = BITS[spec.stored_precision]
    if not supported_precisions(spec, device):
        raise ModelError(
            f"{spec.name} is stored in {bits} bits, which Apple's GPU does not support. Choose the original checkpoint."
        )
    return Reason(f"the checkpoint is stored in {bits} bits", "stored", bits=bits)


def _check_requested(requested: str, spec: ModelSpec, device: Device) -> Reason:
    """The reason for using the requested precision, with its risks. Raises `ModelError` if it is not supported."""
    if requested not in PRECISIONS:
        raise ModelError(f"There is no precision {str(requested)[:40]!r}. Choose auto, {join_with_or(PRECISIONS)}.")
    if spec.stored_precision:
        raise ModelError(
            f"{spec.name} is stored in {BITS[spec.stored_precision]} bits, so {requested} is not available. Choose "
            f"{spec.stored_precision} (or auto), or the original checkpoint."
        )
    if requested not in spec.precisions:
        raise ModelError(
            f"{spec.name} cannot compute in fp16: the layers of its language model overflow, and its answers would be "
            f"noise. Choose {join_with_or(spec.precisions)}."
        )
    if requested not in (supported := supported_precisions(spec, device)):
        raise ModelError(f"Apple's GPU does not support {requested}. Choose {join_with_or(supported)}.")
    if requested in QUANTIZED and device.kind == "cpu" and device.has_bf16:
        sentence = "as requested; it saves memory and, on a CPU that computes in bf16, time, after a longer load"
        return Reason(sentence, "requested_fast")
    if requested in QUANTIZED and device.kind == "cpu":
        return Reason("as requested; on this CPU it saves memory, not time", "requested_memory")
    if requested == "fp16" and spec.language_model.trained_in_bf16:
        sentence = "as requested, though its language model was trained in bf16 and may overflow in fp16"
        return Reason(sentence, "requested_fp16")
    if requested == "bf16" and not device.has_bf16:
        processor = _processor(device)
        return Reason(f"as requested, though this {processor} is slow in bf16", "requested_bf16", processor=processor)
    return Reason("as requested", "requested")


def _build_precision(name: str, spec: ModelSpec, device: Device, reason: Reason) -> Precision:
    return Precision(name, device.name, reason, _dtype(name, spec, device))


def _dtype(name: str, spec: ModelSpec, device: Device) -> torch.dtype:
    """The dtype in which the model computes. With quantized layers it is bf16 on a CPU and on a GPU that has bf16; an
    older GPU, which only emulates bf16, uses fp16, or fp32 if the model overflows in fp16."""
    if name in _DTYPES:
        return _DTYPES[name]
    if device.has_bf16 or device.kind == "cpu":
        return torch.bfloat16
    return torch.float32 if spec.language_model.overflows_in_fp16 else torch.float16
