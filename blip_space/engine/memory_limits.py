"""How many rows of keys and values may be in memory: fewer for a while after memory ran out.

The limit grows while steps succeed, each time by half of what is left to the number of rows that failed; that number is
tried again after a pause, which doubles with each failure, so that failures become rare. Depends on numbers only.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from blip_space.engine.request import EngineConfig

MAX_PATIENCE = 16
"""How many times longer than after the first failure the steps and the pause become."""


class MemoryLimits:
    """The most rows, and the most positions in them, for which each row counts as long as the longest may become."""

    def __init__(
        self,
        config: EngineConfig,
        max_rows: int,
        max_positions: int,
        reserved_positions: Callable[[int, int], int] = operator.mul,
    ) -> None:
        """`reserved_positions(rows, longest)` returns how many positions the buffers of such rows have."""
        self._config = config
        self._reserved_positions = reserved_positions
        self._max_rows, self._max_positions = max_rows, max_positions
        self.row_limit = max_rows
        """The current limit of rows: less than `max_rows` for a while after memory ran out."""

        self._failed_rows: int | None = None
        """The number of rows for which memory is taken to be too small."""

        self._retry_at = self._forget_at = 0.0
        self._patience, self._steps = 1, 0

    def set(self, max_rows: int, max_positions: int) -> None:
        """Replace both limits."""
        self._max_rows = self.row_limit = max_rows
        self._max_positions = max_positions

    def fits(self, rows: int, longest: int) -> bool:
        """Whether this many rows fit into memory, of which the longest may have `longest` positions."""
        return rows <= self.row_limit and self._reserved_positions(rows, longest) <= self._max_positions

    def reduce(self, rows: int, now: float) -> None:
        """After memory ran out with this many rows, allow half of them. `now` is a time in seconds."""
        rows = min(self.row_limit, rows)
        self.row_limit, self._steps = max(1, rows // 2), 0
        self._failed_rows = rows if rows > 1 else None  # one row alone does not fail because of their number
        self._patience = min(MAX_PATIENCE, 2 * self._patience) if now < self._forget_at else 1
        pause = self._patience * self._config.recovery_seconds
        self._retry_at, self._forget_at = now + pause, now + 2 * pause

    def recover(self, now: float) -> None:
        """After a step that succeeded while other sequences waited, maybe allow more rows."""
        if self.row_limit >= self._max_rows:
            return
        self._steps += 1
        if self._steps < self._patience * self._config.recovery_steps:
            return
        limit, self._steps = 2 * self.row_limit, 0
        if self._failed_rows is not None and now < self._retry_at:
            limit = (self.row_limit + self._failed_rows) // 2
        elif self._failed_rows is not None:
            limit, self._failed_rows = self._failed_rows, None
        self.row_limit = min(limit, self._max_rows)
