"""Keeps log lines, warnings and progress bars of libraries, which do not help users, off stderr.

Errors are still logged. Depends on no model.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

    def enter(self) -> None:
        with self._lock:
            if not self._depth:
                self._settings.enter_context(_silence_libraries())
            self._depth += 1

    def exit(self) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._settings.close()


_SILENCE = _Silence()


@contextmanager
def silenced() -> Iterator[None]:
    """Within the context, transformers and the hub's client log errors only and show no bars. Thread-safe."""
    _SILENCE.enter()
    try:
        yield
    finally:
        _SILENCE.exit()


@contextmanager
def _silence_libraries() -> Iterator[None]:
    levels = logging.get_verbosity(), hub_logging.get_verbosity()
    bitsandbytes = getLogger("bitsandbytes")  # reports optional kernels that are not installed
    bitsandbytes_level = bitsandbytes.level
    bitsandbytes.setLevel("CRITICAL")
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        bitsandbytes.setLevel(bitsandbytes_level)
        logging.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if had_bars:
            logging.enable_progress_bar()


def drop_repeated_lines() -> None:
    """Stop logging the lines that libraries repeat in every decode step, for the rest of the process."""
    for name in REPEATED_LINES:
        getLogger(name).addFilter(_is_not_repeated)  # has no effect the second time


def _is_not_repeated(record: LogRecord) -> bool:
    return not str(record.msg).startswith(REPEATED_LINES[record.name])
