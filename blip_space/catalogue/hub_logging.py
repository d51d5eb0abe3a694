"""Keeps log lines and progress bars of the hub's client off stderr, and counts the threads that need this.

Imports huggingface_hub only when the context is entered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


class SharedContext:
    """A context for global settings: the first thread that enters it changes them, and the last that exits restores
    them. `change` returns the context manager that does both. Thread-safe, and may be nested."""

    def __init__(self, change: Callable[[], AbstractContextManager[None]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._depth = 0
        self._settings = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._depth:
                self._settings.enter_context(self._change())
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._settings.close()


@contextmanager
def _silence_client() -> Iterator[None]:
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    verbosity, had_no_bars = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity_error()
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if not had_no_bars:
            enable_progress_bars()


SILENCED_CLIENT = SharedContext(_silence_client)
"""Within this context, the hub's client logs errors only and shows no progress bars of its own."""
