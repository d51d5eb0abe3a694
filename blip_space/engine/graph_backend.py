"""What captures graphs, and why they are off.

Depends on torch only; must not import a batch or a language model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from blip_space.loading.device_errors import is_device_lost

TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How much the results of a graph may differ from those of the eager function, relative to the largest."""

MAX_CAPTURES = 3
"""How often a graph of one shape is captured, if others take its memory."""


class GraphBackend(Protocol):
    """Captures steps; the tests have one for a CPU."""

    def capture(self, step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """A function that repeats the step, and the tensor that each repetition writes its result to."""

    def free_bytes(self) -> int:
        """The free memory of the device."""


def failure_reason(reason: Exception | str) -> str:
    """Why graphs are off, in one line. Raises the error if the device is lost."""
    if isinstance(reason, str):
        return reason
    if is_device_lost(reason):
        raise reason
    cause: BaseException = reason
    while cause.__context__ is not None:  # the end of a capture that failed raises again
        cause = cause.__context__
    return f"{type(cause).__name__}: {cause}".partition("\n")[0]
