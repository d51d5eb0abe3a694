"""Counts equal tracebacks in the log instead of repeating them, so that no caller can fill it.

Depends on logging only.
"""

from __future__ import annotations

import logging
import traceback
from collections import Counter

MAX_KINDS = 1_000
"""How many different errors are counted; after that the counts start again."""


class RepeatedErrors(logging.Filter):
    """A filter of a handler: lets the first traceback of each kind through, and then one line for each power of ten."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[tuple[str, str, int | None]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged. The traceback of a repeated one is replaced by its count."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        if len(self._counts) >= MAX_KINDS:
            self._counts.clear()
        kind = _kind(error)
        self._counts[kind] += 1
        count = self._counts[kind]
        if count == 1:
            return True
        record.msg = f"{record.getMessage()}: {kind[0]}, {count:,} times so far"
        record.args, record.exc_info, record.exc_text = (), None, None
        return str(count).strip("0") == "1"


def install() -> None:
    """Filter what the root logger and uvicorn's write."""
    errors = RepeatedErrors()
    for name in (None, "uvicorn"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(errors)


def _kind(error: BaseException) -> tuple[str, str, int | None]:
    frames = traceback.extract_tb(error.__traceback__)
    origin = (frames[-1].filename, frames[-1].lineno) if frames else ("", None)
    return type(error).__name__, *origin
