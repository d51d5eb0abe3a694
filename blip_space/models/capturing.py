"""What holds while a CUDA graph is captured, or its kernels are measured.

Depends on Python's collector only.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Collect garbage first, and none in the meantime: to destroy a graph while another one is captured makes that
    fail, and torch cannot capture in this process any more."""
    if not gc.isenabled():  # in the context of a caller
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
