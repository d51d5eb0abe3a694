"""What the tests of training share: the packages that training fetches, once for a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.__main__ import RUNS


@pytest.fixture(scope="session")
def sources() -> Path:
    """Where fetched packages lie; what is missing there is fetched by whoever needs it."""
    folder = RUNS / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
