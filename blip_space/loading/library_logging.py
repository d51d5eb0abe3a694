"""Keeps log lines, warnings and progress bars of libraries, which do not help users, off stderr.

Errors are still logged. Depends on no model.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from logging import LogRecord, getLogger

from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging

REPEATED_LINES = {
    "bitsandbytes.autograd._functions": "MatMul8bitLt: inputs will be cast",
    "bitsandbytes.nn.modules": "Input type into Linear4bit is",
}
"""How lines begin that a logger repeats in every decode step."""


class _Silence:
    """The settings of `silenced` are global: the first thread that enters changes them, the last one restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._settings = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._depth:
                self._settings.enter_context(_silence_libraries())
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._settings.close()


_SILENCE = _Silence()


def silenced() -> AbstractContextManager[None]:
    """Within the context, transformers and the hub's client log errors only and show no bars. Thread-safe."""
    return _SILENCE


@contextmanager
def _silence_libraries() -> Iterator[None]:
    bitsandbytes = getLogger("bitsandbytes")  # reports optional kernels that are not installed
    levels = bitsandbytes.level, logging.get_verbosity(), hub_logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    bitsandbytes.setLevel("CRITICAL")
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        bitsandbytes.setLevel(levels[0])
        logging.set_verbosity(levels[1])
        hub_logging.set_verbosity(levels[2])
        if had_bars:
            logging.enable_progress_bar()


def drop_repeated_lines() -> None:
    """Stop logging the lines that libraries repeat in every decode step, for the rest of the process."""
    for name in REPEATED_LINES:
        getLogger(name).addFilter(_is_not_repeated)  # has no effect the second time


def _is_not_repeated(record: LogRecord) -> bool:
    return not str(record.msg).startswith(REPEATED_LINES[record.name])
