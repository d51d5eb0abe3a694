"""Where a model computes: CUDA, Apple's GPU or the processor, and what that one can do.

Questions to the machine only; knows no model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Device:
    """One place to compute: its name for torch, why it was chosen, and whether it computes in bf16 by itself."""

    name: str
    reason: str
    has_bf16: bool

    @property
    def kind(self) -> str:
        """`cuda`, `mps` or `cpu`, without a number."""
        return self.name.partition(":")[0]


def find_device() -> Device:
    """A model lies on one device whole: the GPU with the most free memory, else Apple's, else the processor."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        best = max(range(count), key=lambda number: torch.cuda.mem_get_info(number)[0])
        told = torch.cuda.get_device_name(best)
        more = f", of {count} GPUs the one with the most free memory; a model lies on one" if count > 1 else ""
        with torch.cuda.device(best):
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Device(f"cuda:{best}", told + more, has_bf16)
    if torch.backends.mps.is_available():
        return Device("mps", "Apple's GPU", _mps_has_bf16())
    return Device("cpu", "no GPU that torch can use", cpu_has_bf16())


def free_bytes(device: str) -> int | None:
    """What may still be used on the device, or None where the system does not say. What torch has of a GPU's memory and
    holds nothing in is free to this process."""
    if device.startswith("cuda"):
        gpu = torch.device(device)
        kept = torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
        return int(torch.cuda.mem_get_info(gpu)[0] + kept)
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    known = [amount for amount in (_available(), _container_free()) if amount is not None]
    return min(known, default=None)


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware: AVX512-BF16 or AMX, or bf16 on ARM."""
    list_capabilities = getattr(torch.cpu, "get_capabilities", None)
    if list_capabilities is None:  # older torch has only a private question, and a private name may vanish
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
    capabilities = list_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _mps_has_bf16() -> bool:
    """macOS 14 and later."""
    try:
        torch.zeros(1, dtype=torch.bfloat16, device="mps")
    except (TypeError, RuntimeError):
        return False
    return True


def _available() -> int | None:
    """Without swap: a model that lies there answers at the pace of a disk."""
    row = re.search(r"^MemAvailable:\s+(\d+) kB", _text(MEMINFO), re.MULTILINE)
    return int(row[1]) * 1024 if row else None


def _container_free() -> int | None:
    """What the container's limit leaves; files in the cache that nobody uses are given up before anything is refused.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, memory."""
    limit, used = (_text(CONTAINER / name).strip() for name in ("memory.max", "memory.current"))
    if not limit.isdigit():
        return None
    cached = re.search(r"^inactive_file (\d+)$", _text(CONTAINER / "memory.stat"), re.MULTILINE)
    taken = int(used) - (int(cached[1]) if cached else 0) if used.isdigit() else 0
    return max(int(limit) - max(taken, 0), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:  # another system, or a sandbox
        return ""
