"""Photographs of scikit-image's package that are in the public domain, or CC0, by its documentation: Chelsea the cat, a
cup of coffee, a rocket and a man with a camera."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def photograph(name: str) -> Path:
    """The file of a photograph of scikit-image."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        pytest.skip("no scikit-image: pip install scikit-image")
    return Path(spec.origin).parent / "data" / name
