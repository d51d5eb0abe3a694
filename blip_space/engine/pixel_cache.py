"""Caches the pixel values of recent images, so that a follow-up question need not decode and resize its image again.

Any thread may use it. Depends on keys and on values with `nbytes`; must not import torch or open images.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

Key = tuple[str, str]
"""The model's name and the image's feature key."""


class PixelCache:
    """Caches values that have `nbytes`, up to `max_bytes` in all; the least recently used are dropped first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._pixels: OrderedDict[Key, Any] = OrderedDict()

    def get_or_compute(self, key: Key, compute: Callable[[], Any]) -> Any:
        """The cached value of `key`. If there is none, `compute` is called, without the lock, and its result cached."""
        with self._lock:
            if key in self._pixels:
                self._pixels.move_to_end(key)
                return self._pixels[key]
        pixels = compute()
        with self._lock:
            if key not in self._pixels:
                self._pixels[key] = pixels
                self.bytes += pixels.nbytes
            while self.bytes > self.max_bytes:
                _, oldest = self._pixels.popitem(last=False)
                self.bytes -= oldest.nbytes
        return pixels
