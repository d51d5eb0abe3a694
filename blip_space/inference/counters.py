"""How the engine is doing: tokens a second, seconds to the first token, and what was not computed twice.

Knows numbers and a clock; knows no request. Written by the worker, read by anybody: every reading is of one moment.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 10.0
FIRST_TOKENS = 100
"""The mean of so many answers' first tokens is told."""


@dataclass(frozen=True)
class Reading:
    """What the counters say now. `restarts` is how often the worker had to be started again."""

    tokens_per_second: float = 0.0
    first_token_seconds: float | None = None
    prefix_hits: int = 0
    turn_hits: int = 0
    restarts: int = 0


class Counters:
    """Tokens and first tokens as they come."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens: deque[tuple[float, int]] = deque()
        self._firsts: deque[float] = deque(maxlen=FIRST_TOKENS)

    def add_tokens(self, count: int) -> None:
        """So many tokens were written just now."""
        self._tokens.append((self._clock(), count))
        self._forget()

    def add_first(self, seconds: float) -> None:
        """An answer's first token came after so many seconds, its time in line included."""
        self._firsts.append(seconds)

    def reading(self, *, prefix_hits: int, turn_hits: int, restarts: int) -> Reading:
        """The counters and what was counted elsewhere."""
        self._forget()
        tokens, firsts = list(self._tokens), list(self._firsts)
        spent = self._clock() - tokens[0][0] if tokens else 0.0
        return Reading(
            tokens_per_second=round(sum(count for _, count in tokens) / max(spent, 1.0), 1),
            first_token_seconds=round(sum(firsts) / len(firsts), 3) if firsts else None,
            prefix_hits=prefix_hits,
            turn_hits=turn_hits,
            restarts=restarts,
        )

    def _forget(self) -> None:
        oldest = self._clock() - WINDOW_SECONDS
        while self._tokens and self._tokens[0][0] < oldest:
            try:
                self._tokens.popleft()
            except IndexError:  # another thread was faster
                return
