"""The machine that an engine runs on, as far as the engine asks: the device of its models, the free memory, the loader.

Must not import torch at module level.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blip_space import settings
from blip_space.catalogue import ModelSpec
from blip_space.serving.load_progress import LoadProgress
from blip_space.serving.preparations import import_model_libraries

if TYPE_CHECKING:
    from blip_space.loading.device import Device

DEVICES = Path("/dev")
STATUS = Path("/proc/self/status")
MEMORY = re.compile(r"VmRSS:\s*(\d+) kB")


@dataclass(frozen=True)
class Machine:
    """This machine; `device` is `auto` or the name of the one that models compute on (see `find_device`)."""

    device: str = "auto"

    @property
    def has_cuda(self) -> bool:
        """Whether models compute on CUDA, as far as is known without importing torch. On Windows false with `auto`."""
        if self.device != "auto":
            return self.device.startswith("cuda")
        # the files of NVIDIA's driver, and that of Windows for Linux
        is_there = any(DEVICES.glob("nvidia[0-9]*")) or (DEVICES / "dxg").exists()
        return is_there and not settings.hides_gpus() and _torch_has_cuda()

    def find_memory(self) -> tuple[Device, int | None]:
        """The device of the next model, and its free bytes, or None if the system does not report them."""
        from blip_space.loading.device import find_device, free_bytes

        device = find_device(self.device)
        return device, free_bytes(device.name)

    def load(self, spec: ModelSpec, precision: str, progress: LoadProgress) -> Any:
        """Load a model on the device; `UserError` where that fails."""
        import_model_libraries()
        from blip_space.loading import loader

        return loader.load_model(spec, precision, device=self.device, on_progress=progress)

    def fitting_precisions(self, spec: ModelSpec, *, freed: int) -> tuple[str, ...]:
        """The precisions in which a model fits the device once `freed` more bytes are free."""
        from blip_space.loading.memory import fitting_precisions

        return fitting_precisions(spec, freed=freed, device_name=self.device)


def used_bytes(device: str) -> dict[str, int]:
    """The memory of this process, and what torch holds on a GPU, as a status calls them; 0 where not known."""
    found = MEMORY.search(STATUS.read_text("utf-8", "replace")) if STATUS.exists() else None
    used = {"memory_bytes": int(found[1]) * 1024 if found else 0, "device_memory_bytes": 0}
    if device.startswith("cuda"):
        from blip_space.loading.device import reserved_bytes

        used["device_memory_bytes"] = reserved_bytes(device)
    return used


def _torch_has_cuda() -> bool:
    """Whether torch was built for CUDA, read from its version, since importing it takes seconds."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return False
    version = Path(torch.origin).with_name("version.py")
    return version.is_file() and bool(re.search(r"^cuda\b.*= '", version.read_text("utf-8"), re.MULTILINE))
