"""The number of CPU threads that torch computes with. Depends on torch only."""

from __future__ import annotations

import torch

ALL_THREADS = torch.get_num_threads()
"""torch's own default."""

MIN_PARAMETERS = 50_000_000
"""A model with fewer parameters gets one thread: in small batches, several would wait longer than they compute."""


def use_threads(count: int) -> None:
    """Let torch compute with `count` threads from now on."""
    torch.set_num_threads(count)
