"""Numbers between the host and a model's device, so that nothing waits that need not.

Depends on torch only. A step brings its numbers to the device once, and the chosen ids back once; any other read of a
tensor's numbers (`item`, `tolist`, `bool`, `nonzero`, a mask as an index) would make the host wait for the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def to_device(numbers: Any, device: torch.device) -> torch.Tensor:
    """Whole numbers, or lists of them, as an int64 tensor on that device; on a GPU nobody waits for the copy."""
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.tensor(numbers, dtype=torch.long, pin_memory=True).to(device, non_blocking=True)
    return torch.tensor(numbers, dtype=torch.long, device=device)


def to_host(tokens: torch.Tensor) -> list[int]:
    """The numbers of a tensor (n,): the one read of a step, which waits for everything before it."""
    numbers: list[int] = tokens.tolist()
    return numbers


def select_rows(part: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Copies of these rows of a tensor, in this order; a list as an index would make the host wait for a GPU."""
    return part.index_select(0, to_device(rows, part.device))
