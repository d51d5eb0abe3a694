"""The device that a model computes on, CUDA, Apple's GPU or the CPU, and its capabilities.

Depends on the hardware only; must not depend on a model. The parts for CUDA are tested with replaced calls of torch.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from blip_space.catalogue.families import join_with_or
from blip_space.errors import ModelError, quote

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Device:
    """A device: its name for torch, why it was chosen, and whether it computes in bf16 natively."""

    name: str
    reason: str
    has_bf16: bool

    @property
    def kind(self) -> str:
        """`cuda`, `mps` or `cpu`, without a number."""
        return self.name.partition(":")[0]


def find_device(wanted: str = "auto") -> Device:
    """The device of that name: `cpu`, `mps` or `cuda:N`, which is one GPU since a model is never split.

    `auto` is the CUDA GPU with the most free memory, else Apple's GPU, else the CPU. Raises `ModelError` for another
    name, and for a device that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if wanted == "cpu" or (wanted == "auto" and not count and not has_mps):
        return Device("cpu", "as requested" if wanted == "cpu" else "no GPU that torch can use", cpu_has_bf16())
    if wanted == "auto" and count:
        best = max(range(count), key=lambda number: torch.cuda.mem_get_info(number)[0])
        reason = torch.cuda.get_device_name(best)
        if count > 1:
            reason += f", of {count} GPUs the one with the most free memory; a model runs on one"
        return Device(f"cuda:{best}", reason, _cuda_has_bf16(best))
    if has_mps and wanted in ("auto", "mps"):
        return Device("mps", "Apple's GPU", _mps_has_bf16())
    devices = ["cpu", *(["mps"] if has_mps else []), *(f"cuda:{number}" for number in range(count))]
    if wanted not in devices:
        raise ModelError(_no_such_device(wanted, devices))
    number = int(wanted.removeprefix("cuda:"))
    return Device(wanted, f"{torch.cuda.get_device_name(number)}, as requested", _cuda_has_bf16(number))


def on_device(name: str) -> AbstractContextManager[object]:
    """A context in which the device is torch's current one, if it is a GPU; kernels that are not torch's own run on the
    current one, wherever their tensors are."""
    return torch.cuda.device(name) if name.startswith("cuda") and torch.cuda.is_available() else nullcontext()


def configure_cuda(dtype: torch.dtype) -> None:
    """Set torch's options for a model that computes in `dtype` on CUDA; they hold for the whole process."""
    # cuDNN plans its attention again for every length, tens of milliseconds in each step of a growing answer
    torch.backends.cuda.enable_cudnn_sdp(False)
    if dtype == torch.float32:  # TF32 keeps 10 bits of 23, so that answers would depend on the batch
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def reserved_bytes(name: str) -> int:
    """What torch holds of the memory of a CUDA device, whether or not tensors use it."""
    return torch.cuda.memory_reserved(name)


def free_bytes(device: str) -> int | None:
    """The free memory of the device in bytes, or None if it is unknown. GPU memory that torch has reserved but does not
    use counts as free."""
    if device.startswith("cuda"):
        gpu = torch.device(device)
        unused = torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
        return int(torch.cuda.mem_get_info(gpu)[0] + unused)
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    limits = [size for size in (_available_ram(), _cgroup_free()) if size is not None]
    return min(limits, default=None)


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware: AVX512-BF16 or AMX, or bf16 on ARM."""
    list_capabilities = getattr(torch.cpu, "get_capabilities", None)
    if list_capabilities is None:  # older torch has only a private function, which may disappear
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
    capabilities = list_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _no_such_device(wanted: str, devices: list[str]) -> str:
    if re.fullmatch(r"mps|cuda:\d+", wanted):
        problem = f"torch finds no device {wanted} on this machine."
        if wanted != "mps" and len(devices) == 1:
            problem += " Check that its driver and a torch built for CUDA are installed."
    elif "," in wanted:
        problem = "A model runs on one device, and only a server takes several."
    else:
        problem = f"{quote(wanted)} is not a device that a model can run on."
    return f"{problem} Choose {join_with_or(['auto', *devices])}."


def _cuda_has_bf16(number: int) -> bool:
    """Whether it computes in bf16 natively, from Ampere on; Turing only emulates it."""
    with torch.cuda.device(number):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _mps_has_bf16() -> bool:
    """Whether Apple's GPU computes in bf16, as it does on macOS 14 and later."""
    try:
        torch.zeros(1, dtype=torch.bfloat16, device="mps")
    except (TypeError, RuntimeError):
        return False
    return True


def _available_ram() -> int | None:
    """The free RAM in bytes, or None if unknown. Swap does not count: a model in it would be as slow as the disk."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _read_text(MEMINFO), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _cgroup_free() -> int | None:
    """The bytes left below the container's memory limit, or None if there is no limit. Inactive cached files count as
    free, since the kernel reclaims them. Source: https://docs.kernel.org/admin-guide/cgroup-v2.html, memory."""
    limit, used = (_read_text(CGROUP / name).strip() for name in ("memory.max", "memory.current"))
    if not limit.isdigit():
        return None
    cached = re.search(r"^inactive_file (\d+)$", _read_text(CGROUP / "memory.stat"), re.MULTILINE)
    unreclaimable = int(used) - (int(cached[1]) if cached else 0) if used.isdigit() else 0
    return max(int(limit) - max(unreclaimable, 0), 0)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:  # another system, or a sandbox
        return ""
