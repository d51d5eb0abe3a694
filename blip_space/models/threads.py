"""How many threads torch computes with on a processor. Depends on torch only."""

from __future__ import annotations

import torch

ALL_THREADS = torch.get_num_threads()
"""As many as torch takes by itself."""

MIN_PARAMETERS = 50_000_000
"""Below that, and for few rows, threads wait for each other longer than they compute."""


def use_threads(count: int) -> None:
    """Compute with so many threads from here on."""
    torch.set_num_threads(count)
