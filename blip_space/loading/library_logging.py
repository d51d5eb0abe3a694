"""Keeps log lines, warnings and progress bars of libraries off stderr, since they do not help users.

Errors are still logged. Depends on no model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from logging import LogRecord, getLogger

from transformers.utils import logging

from blip_space.catalogue.hub_logging import SILENCED_CLIENT, SharedContext

REPEATED_LINES = {
    "bitsandbytes.autograd._functions": "MatMul8bitLt: inputs will be cast",
    "bitsandbytes.nn.modules": "Input type into Linear4bit is",
}
"""By logger, the beginning of a line that it would log in every decode step."""


@contextmanager
def _silence_libraries() -> Iterator[None]:
    bitsandbytes = getLogger("bitsandbytes")  # reports optional kernels that are not installed
    level, verbosity = bitsandbytes.level, logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    bitsandbytes.setLevel("CRITICAL")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with SILENCED_CLIENT:
                yield
    finally:
        bitsandbytes.setLevel(level)
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


_SILENCED = SharedContext(_silence_libraries)


def silenced() -> AbstractContextManager[None]:
    """A context in which transformers and the hub's client log errors only and show no progress bars. Thread-safe."""
    return _SILENCED


def drop_repeated_lines() -> None:
    """Stop logging the lines that libraries repeat in every decode step, for the rest of the process."""
    for name in REPEATED_LINES:
        getLogger(name).addFilter(_is_not_repeated)  # adding it again has no effect


def _is_not_repeated(record: LogRecord) -> bool:
    return not str(record.msg).startswith(REPEATED_LINES[record.name])
