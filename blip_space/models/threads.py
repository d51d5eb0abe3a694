"""The number of CPU threads that torch computes with. Depends on torch only."""

from __future__ import annotations

import torch

ALL_THREADS = torch.get_num_threads()
"""torch's own default."""

MIN_PARAMETERS = 50_000_000
"""With fewer, and in small batches, threads wait for each other longer than they compute."""


def use_threads(count: int) -> None:
    """Compute with that number of threads from now on."""
    torch.set_num_threads(count)
