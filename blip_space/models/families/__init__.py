"""One module per family of vision-language models, each with a `FAMILY`."""

from __future__ import annotations

import importlib
from typing import cast

from blip_space.models.family import Family


def load_family(name: str) -> Family:
    """The family of that name, which is its module's."""
    return cast(Family, importlib.import_module(f"{__name__}.{name}").FAMILY)
