"""One module per family of vision-language models, each with a `FAMILY`."""

from __future__ import annotations

import importlib
from typing import cast

from blip_space.models.family import Family


def load_family(name: str) -> Family:
    """The `FAMILY` of the module `name`."""
    return cast(Family, importlib.import_module(f"{__name__}.{name}").FAMILY)
