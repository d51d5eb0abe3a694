"""Which numbers a model computes with, and why.

Pure decisions, each with its reason for the log and the page, and two questions to the machine. Knows nothing of
checkpoints beyond how many parameters they have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from blip_space.errors import ModelError

PRECISIONS = ("fp32", "bf16")

SMALL_PARAMETERS = 500_000_000
"""Below it fp32 costs little, and greedy answers do not change with the batch as they do in bf16."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Precision:
    """A decision: one of PRECISIONS, a torch device, and the part of a sentence that says why."""

    name: str
    device: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return _DTYPES[self.name]


def choose(wanted: str, *, parameters: int, device: str, cpu_has_bf16: bool) -> Precision:
    """The precision for a model of that many parameters on that device, `auto` decided.

    Raises `ModelError` when there is no such precision.
    """
    if wanted != "auto":
        return _as_asked(wanted, device=device, cpu_has_bf16=cpu_has_bf16)
    if parameters < SMALL_PARAMETERS:
        return Precision("fp32", device, "the model is small, and in fp32 an answer does not depend on its neighbours")
    if device != "cpu":
        return Precision("bf16", device, "the model is large, and bf16 takes half the memory of fp32")
    if cpu_has_bf16:
        return Precision("bf16", device, "the model is large, and this processor computes in bf16")
    return Precision("fp32", device, "this processor does not compute in bf16 (no AVX512-BF16 or AMX)")


def _as_asked(wanted: str, *, device: str, cpu_has_bf16: bool) -> Precision:
    if wanted not in PRECISIONS:
        raise ModelError(f"There is no precision {str(wanted)[:40]!r}. Choose auto, {' or '.join(PRECISIONS)}.")
    slow = wanted == "bf16" and device == "cpu" and not cpu_has_bf16
    return Precision(wanted, device, "as asked, though this processor computes bf16 slowly" if slow else "as asked")


def detect_device() -> str:
    """`cuda` where torch finds a usable GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware: AVX512-BF16 or AMX, or bf16 on ARM."""
    list_capabilities = getattr(torch.cpu, "get_capabilities", None)
    if list_capabilities is None:  # older torch has only a private question, and a private name may vanish
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
    capabilities = list_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
