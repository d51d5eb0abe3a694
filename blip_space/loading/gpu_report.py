"""What this machine's GPUs are to torch, in sentences: which can be used, and why others cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from blip_space import settings
from blip_space.errors import DeviceError, UserError

DRIVER_FILES = Path("/dev")
ARCHITECTURE = re.compile(r"(?:sm|compute)_(\d+)\d")
DRIVER_VERSION = Path("/proc/driver/nvidia/version")


def describe_gpus() -> Iterator[str]:
    """A sentence for each GPU that torch can use, or one that there is none. Raises `DeviceError` with the reason if
    there is one that it cannot use, and `UserError` if that is as asked."""
    has_driver = any(DRIVER_FILES.glob("nvidia[0-9]*"))
    if torch.backends.mps.is_available():
        yield "torch can use Apple's GPU."
    elif torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield _describe(number)
    elif not has_driver:
        yield "There is no GPU that torch can use, so models compute on the processor."
    elif settings.hides_gpus():
        raise UserError("There is a GPU, but CUDA_VISIBLE_DEVICES hides it. Remove that variable to use it.")
    elif torch.version.cuda is None:
        raise DeviceError(
            f"There is an NVIDIA GPU, but torch {torch.__version__} is built without CUDA. Install a build with CUDA: "
            "https://pytorch.org/get-started/locally/."
        )
    else:
        raise DeviceError(
            f"There is an NVIDIA GPU with driver {_driver_version()}, but torch {torch.__version__} cannot use it. "
            f"It is built for CUDA {torch.version.cuda}, which may need a newer driver."
        )


def _describe(number: int) -> str:
    """The GPU and its memory. Raises `DeviceError` if torch has no code for it."""
    name, capability = torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)
    majors = {int(found[1]) for arch in torch.cuda.get_arch_list() if (found := ARCHITECTURE.match(arch))}
    if capability[0] not in majors:
        raise DeviceError(
            f"cuda:{number} is {name}, for which torch {torch.__version__} has no code (compute capability "
            f"{capability[0]}.{capability[1]}). Install another build of torch."
        )
    free, total = torch.cuda.mem_get_info(number)
    return (
        f"cuda:{number} is {name} with {total / 1e9:.0f} GB, of which {free / 1e9:.0f} GB are free "
        f"(driver {_driver_version()}, CUDA {torch.version.cuda})."
    )


def _driver_version() -> str:
    try:
        found = re.search(r"\s(\d+\.\d+[.\d]*)\s", DRIVER_VERSION.read_text("utf-8", "replace"))
    except OSError:
        found = None
    return found[1] if found else "of unknown version"
