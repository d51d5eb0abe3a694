"""Pixel values that were made lately, so that a later question about an image decodes and resizes nothing.

From any thread. Depends on digests and on values that say their size; must not import torch or open images.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

Key = tuple[str, str]
"""The model's name and the image's digest."""


class PixelCache:
    """Values with `nbytes`, within `max_bytes`; the least recently used are forgotten first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._pixels: OrderedDict[Key, Any] = OrderedDict()

    def get_or_compute(self, key: Key, make: Callable[[], Any]) -> Any:
        """What is kept under the key, or what `make` gives, which is then kept. Nothing is locked meanwhile."""
        with self._lock:
            if key in self._pixels:
                self._pixels.move_to_end(key)
                return self._pixels[key]
        made = make()
        with self._lock:
            if key not in self._pixels:
                self._pixels[key] = made
                self.bytes += made.nbytes
            while self.bytes > self.max_bytes:
                _, oldest = self._pixels.popitem(last=False)
                self.bytes -= oldest.nbytes
        return made
