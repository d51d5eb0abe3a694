"""How an engine is doing: tokens per second, seconds to the first token, and what was not computed twice.

Depends on numbers and a clock; must not import requests. Written by the engine's thread, read by any: every snapshot
is of one moment.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

WINDOW_SECONDS = 10.0
FIRST_TOKENS = 100
"""The mean is of so many answers' first tokens."""


@dataclass(frozen=True)
class MetricsSnapshot:
    """What the metrics are now, by the names of `/healthz`. `prefix_hits` counts images that were not encoded twice,
    `turn_hits` conversations that were continued from cached keys and values, `restarts` how often a thread or a batch
    had to begin again."""

    tokens_per_second: float = 0.0
    first_token_seconds: float | None = None
    prefix_hits: int = 0
    turn_hits: int = 0
    restarts: int = 0


class Metrics:
    """Tokens and first tokens as they come."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens: deque[tuple[float, int]] = deque()
        self._first_tokens: deque[float] = deque(maxlen=FIRST_TOKENS)

    def add(self, tokens: int, first_token_seconds: Iterable[float] = ()) -> None:
        """So many tokens were generated just now; the first of some answers after so many seconds, their time in the
        queue included."""
        self._tokens.append((self._clock(), tokens))
        self._first_tokens.extend(first_token_seconds)
        self._forget()

    def snapshot(self, *, image_feature_hits: int, kv_prefix_hits: int, restarts: int) -> MetricsSnapshot:
        """The metrics with what was counted elsewhere."""
        self._forget()
        tokens, first_tokens = list(self._tokens), list(self._first_tokens)
        seconds = self._clock() - tokens[0][0] if tokens else 0.0
        return MetricsSnapshot(
            tokens_per_second=round(sum(count for _, count in tokens) / max(seconds, 1.0), 1),
            first_token_seconds=round(sum(first_tokens) / len(first_tokens), 3) if first_tokens else None,
            prefix_hits=image_feature_hits,
            turn_hits=kv_prefix_hits,
            restarts=restarts,
        )

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._tokens and self._tokens[0][0] < oldest:
            try:
                self._tokens.popleft()
            except IndexError:  # another thread was faster
                return
