"""What happened to the calls of all clients, counted from any thread."""

from __future__ import annotations

import threading
from collections import Counter

MAX_EXAMPLES = 20


class Counts:
    """Counters by name, and the first few errors in full."""

    def __init__(self) -> None:
        self.counter: Counter[str] = Counter()
        self.examples: list[str] = []
        self.seconds: list[float] = []
        """Of the answers of patient clients."""

        self.failed_at = float("-inf")
        """When the last failure of the server was caused."""

        self._lock = threading.Lock()

    def add(self, name: str, example: str = "") -> None:
        """Count one more, with its error if it is one."""
        with self._lock:
            self.counter[name] += 1
            if example and len(self.examples) < MAX_EXAMPLES:
                self.examples.append(f"{name}: {example}")

    def add_seconds(self, seconds: float) -> None:
        """Count how long an answer took."""
        with self._lock:
            self.seconds.append(seconds)

    def total(self, beginning: str) -> int:
        """The sum of all counters whose names begin like this."""
        with self._lock:
            return sum(count for name, count in self.counter.items() if name.startswith(beginning))
