"""Keeps the libraries' reports, hints and progress bars, of which a person can use none, off stderr.

Knows no model. Errors pass: only what is logged below an error, warnings and bars are held back, and for good only
single lines that come back with every step.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from logging import LogRecord, getLogger

from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging

REPEATED = {
    "bitsandbytes.autograd._functions": "MatMul8bitLt: inputs will be cast",
    "bitsandbytes.nn.modules": "Input type into Linear4bit is",
}
"""What a logger says in every step, of which nothing can be done: how it starts."""


class _Silence:
    """What `quiet` sets is the whole process's: the first thread that comes in sets it, the last sets it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._set = ExitStack()

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._set.enter_context(_silenced())
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._set.close()


_SILENCE = _Silence()


@contextmanager
def silenced() -> Iterator[None]:
    """Inside, transformers and the hub's client log errors only and draw no bars. From any number of threads."""
    _SILENCE.enter()
    try:
        yield
    finally:
        _SILENCE.leave()


@contextmanager
def _silenced() -> Iterator[None]:
    levels = logging.get_verbosity(), hub_logging.get_verbosity()
    quantiser = getLogger("bitsandbytes")  # it laments faster kernels that nobody installed
    had = quantiser.level
    quantiser.setLevel("CRITICAL")
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        quantiser.setLevel(had)
        logging.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if had_bars:
            logging.enable_progress_bar()


def drop_repeated_lines() -> None:
    """Keep the lines that libraries log in every step off the screen for as long as the process lives."""
    for name in REPEATED:
        getLogger(name).addFilter(_is_new)  # which a logger takes once


def _is_new(record: LogRecord) -> bool:
    return not str(record.msg).startswith(REPEATED[record.name])
