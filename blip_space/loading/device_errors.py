"""Whether an error means that the process has lost its GPU.

After an illegal access, such as an index out of range, every later call of CUDA fails in the same process, whatever it
computes. Must not import torch, so that a server can ask before it is loaded. Tested with raised exceptions; it has not
run on a GPU.
"""

from __future__ import annotations

import logging

from blip_space.errors import DeviceError

log = logging.getLogger(__name__)

DEVICE_FAILED = (
    "The GPU failed, and this process cannot use it any more; the log has the error. Start it again, then try again."
)

NOT_LOST = (
    *("out of memory", "alloc_failed"),  # handled as lack of memory
    "captur",  # of a CUDA graph
    "invalid device ordinal",  # a GPU that is not there
    *("no kernel image", "not supported", "not_supported"),  # torch was not built for this GPU or operation
)
"""Parts of messages of errors after which CUDA goes on, in lower case."""


def is_device_lost(error: BaseException) -> bool:
    """Whether an error is CUDA's, and not one after which the process can still use the GPU.

    torch raises `AcceleratorError`, or a plain RuntimeError where a library such as cuBLAS fails.
    """
    message = str(error).lower()
    is_cuda_error = any(kind.__name__ == "AcceleratorError" for kind in type(error).__mro__) or (
        isinstance(error, RuntimeError) and "cuda error" in message
    )
    return isinstance(error, DeviceError) or (is_cuda_error and not any(text in message for text in NOT_LOST))


def as_device_error(error: BaseException) -> DeviceError:
    """The error for users in place of one for which `is_device_lost` is true, which is logged."""
    if isinstance(error, DeviceError):
        return error
    log.error("the GPU failed", exc_info=error)
    return DeviceError(DEVICE_FAILED)
