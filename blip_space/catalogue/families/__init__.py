"""One module for each family of vision-language models, with its spec as `FAMILY`.

The modules are discovered, not listed. Must not import torch, nor a family by its name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from blip_space.catalogue.family import FamilySpec, list_architectures

FIRST = "blip2"
"""The family whose models are the first in lists."""


def _import_all() -> dict[str, FamilySpec]:
    modules = sorted((item.name for item in pkgutil.iter_modules(__path__)), key=lambda name: (name != FIRST, name))
    return {name: importlib.import_module(f"{__name__}.{name}").FAMILY for name in modules}


ALL: Mapping[str, FamilySpec] = _import_all()
"""All families by name."""


def identify(config: Mapping[str, Any]) -> FamilySpec | None:
    """The family of a `config.json`, by the first of its `architectures` or else by its `model_type`. None if neither
    belongs to a family, or if they belong to different ones."""
    by_type = next((family for family in ALL.values() if family.model_type == config.get("model_type")), None)
    first = next(iter(list_architectures(config)), "")
    by_architecture = next((family for family in ALL.values() if family.architecture == first), None)
    if by_architecture and config.get("model_type") is not None:
        return by_architecture if by_architecture is by_type else None
    return by_architecture or by_type


def list_supported() -> str:
    """The supported families for a sentence: `a BLIP-2 model or a LLaVA model`."""
    return join_with_or(family.noun for family in ALL.values())


def join_with_or(words: Iterable[str]) -> str:
    """The words, separated by commas and by `or` before the last one."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
