"""What holds while a CUDA graph is captured, or its kernels are measured.

Depends on Python's collector only.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Collector:
    """Python's collector, which is off while any thread captures."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captures = 0
        self._was_on = False

    def begin(self) -> None:
        with self._lock:
            if not self._captures:
                self._was_on = gc.isenabled()
                gc.disable()
            self._captures += 1

    def end(self) -> None:
        with self._lock:
            self._captures -= 1
            if not self._captures and self._was_on:
                gc.enable()


_COLLECTOR = _Collector()


@contextmanager
def without_collector() -> Iterator[None]:
    """Collect no garbage in the meantime: to destroy a graph while another one is captured makes that capture fail.
    Several threads, each with a GPU of its own, may capture at once."""
    _COLLECTOR.begin()
    try:
        yield
    finally:
        _COLLECTOR.end()
