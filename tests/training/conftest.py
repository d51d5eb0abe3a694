"""Shared by the tests of training: the packages that training downloads, once for a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.__main__ import RUNS


@pytest.fixture(scope="session")
def sources() -> Path:
    """The folder of downloaded packages; tests that need a missing one download it."""
    folder = RUNS / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
