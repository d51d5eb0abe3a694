"""A plugin of pytest, `-p benchmarks.recorded_warnings`: write each different warning to the file of `--warnings-file`.

`benchmarks.versions` shows them; a line has the category and the first line of the message.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

_recorded: dict[str, None] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--warnings-file`."""
    parser.addoption("--warnings-file", type=Path, required=True)


def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
    """Remember a warning without what differs from test to test."""
    message = (str(warning_message.message).strip().splitlines() or [""])[0]
    _recorded[f"{warning_message.category.__name__}: {message}"] = None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the file."""
    file: Path = session.config.getoption("--warnings-file")
    file.write_text("".join(f"{line}\n" for line in _recorded), "utf-8")
