"""Whether this Space runs on ZeroGPU, and what its libraries need there.

Like the settings, it may read and write `os.environ`. Must not import anything else of this package.
"""

from __future__ import annotations

import os


def is_zero_gpu() -> bool:
    """Whether this process is a Space on ZeroGPU, which gives a GPU to one call at a time. The variable is that of the
    package `spaces`."""
    return os.environ.get("SPACES_ZERO_GPU", "").strip().lower() in ("1", "t", "true")


def load_in_one_thread() -> None:
    """Let transformers load weights in the calling thread: `spaces` emulates the GPU there only."""
    os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")
