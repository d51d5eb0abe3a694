"""How many files this process may have open, and how many of them uploads may take: Gradio keeps each file of an upload
open until the last one has arrived.

Depends on the operating system only.
"""

from __future__ import annotations

from collections import Counter

MAX_LIMIT = 65_536
DEFAULT_LIMIT = 1_024


def raise_limit() -> int:
    """Let this process open as many files as it may, up to `MAX_LIMIT`, and return the limit."""
    try:
        import resource
    except ImportError:  # Windows
        return DEFAULT_LIMIT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_LIMIT if hard == resource.RLIM_INFINITY else min(hard, MAX_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MAX_LIMIT if soft == resource.RLIM_INFINITY else soft


class OpenFiles:
    """The files of uploads that are arriving: half of what the process may open, of which one caller gets half."""

    def __init__(self, limit: int, at_least: int) -> None:
        """`at_least` is what one upload may have, which is allowed in any case."""
        self._max_total = max(limit // 2, at_least)
        self._max_caller = max(limit // 4, at_least)
        self._counts: Counter[str] = Counter()
        self._total = 0

    def add(self, owner: str, count: int) -> bool:
        """Count this caller's further files, or with a negative number closed ones. Returns whether there is room."""
        self._counts[owner] += count
        self._total += count
        if not self._counts[owner]:
            del self._counts[owner]
        return self._counts[owner] <= self._max_caller and self._total <= self._max_total
