"""An engine's metrics: tokens per second, seconds to the first token, and cache hits.

Depends on numbers and a clock; must not import requests. The engine's thread writes; any thread may read a snapshot.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean

WINDOW_SECONDS = 10.0
FIRST_TOKENS = 100
"""The mean time to the first token is taken over this many last answers."""


@dataclass(frozen=True)
class MetricsSnapshot:
    """The metrics by the names of `/healthz`: `prefix_hits` are hits of the image feature cache, `turn_hits` those of
    the KV prefix cache, `restarts` how often a thread or a batch was restarted, `memory_bytes` the memory of the
    engine's process, and `device_memory_bytes` what torch holds of the memory of a GPU."""

    tokens_per_second: float = 0.0
    first_token_seconds: float | None = None
    prefix_hits: int = 0
    turn_hits: int = 0
    restarts: int = 0
    memory_bytes: int = 0
    device_memory_bytes: int = 0


def sum_metrics(metrics: Sequence[MetricsSnapshot]) -> MetricsSnapshot:
    """The metrics' sums over several engines, and the mean of their seconds to the first token."""
    waits = [item.first_token_seconds for item in metrics if item.first_token_seconds is not None]
    sums = {field.name: sum(getattr(item, field.name) or 0 for item in metrics) for field in fields(MetricsSnapshot)}
    return replace(MetricsSnapshot(**sums), first_token_seconds=round(fmean(waits), 3) if waits else None)


class Metrics:
    """Collects tokens and first tokens over a sliding window."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens: deque[tuple[float, int]] = deque()
        self._first_tokens: deque[float] = deque(maxlen=FIRST_TOKENS)

    def add(self, tokens: int, first_token_seconds: Iterable[float] = ()) -> None:
        """Count tokens that were just generated, and the seconds to the first token of answers, queueing included."""
        self._tokens.append((self._clock(), tokens))
        self._first_tokens.extend(first_token_seconds)
        self._drop_old()

    def snapshot(
        self, *, image_feature_hits: int, kv_prefix_hits: int, restarts: int, **memory: int
    ) -> MetricsSnapshot:
        """The current metrics; the arguments are counted elsewhere."""
        self._drop_old()
        tokens, first_tokens = list(self._tokens), list(self._first_tokens)
        seconds = self._clock() - tokens[0][0] if tokens else 0.0
        return MetricsSnapshot(
            tokens_per_second=round(sum(count for _, count in tokens) / max(seconds, 1.0), 1),
            first_token_seconds=round(sum(first_tokens) / len(first_tokens), 3) if first_tokens else None,
            prefix_hits=image_feature_hits,
            turn_hits=kv_prefix_hits,
            restarts=restarts,
            **memory,
        )

    def _drop_old(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._tokens and self._tokens[0][0] < oldest:
            try:
                self._tokens.popleft()
            except IndexError:  # another thread was faster
                return
