"""What holds while a CUDA graph is captured, or its kernels are measured.

Depends on Python's collector only.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Collect no garbage in the meantime: to destroy a graph while another one is captured makes that capture fail."""
    if not gc.isenabled():  # in the context of a caller
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
