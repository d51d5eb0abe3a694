"""One module for each family of vision-language models; each has a `FAMILY`, the row that says what it is.

A family is there while its module is: nothing lists them. Must not import torch, nor a family by its name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from blip_space.catalogue.family import FamilySpec

FIRST = "blip2"
"""The family whose models come first in every list."""


def _read_all() -> dict[str, FamilySpec]:
    modules = sorted((row.name for row in pkgutil.iter_modules(__path__)), key=lambda name: (name != FIRST, name))
    return {name: importlib.import_module(f"{__name__}.{name}").FAMILY for name in modules}


ALL: Mapping[str, FamilySpec] = _read_all()
"""By name."""


def find(name: str) -> FamilySpec:
    """The row of that family; `KeyError` where there is none."""
    return ALL[name]


def identify(config: Mapping[str, Any]) -> FamilySpec | None:
    """The family of a `config.json`: by the first of its `architectures`, and where no family is called so by its
    `model_type`; None where there is none, or the two are of different ones."""
    by_type = next((row for row in ALL.values() if row.model_type == config.get("model_type")), None)
    first = next(iter(list_architectures(config)), "")
    by_architecture = next((row for row in ALL.values() if row.architecture == first), None)
    if by_architecture and config.get("model_type") is not None:
        return by_architecture if by_architecture is by_type else None
    return by_architecture or by_type


def list_architectures(config: Mapping[str, Any]) -> list[str]:
    """What a `config.json` says that its weights are of."""
    named = config.get("architectures")
    return [item for item in named if isinstance(item, str)] if isinstance(named, list) else []


def list_supported() -> str:
    """What is read here, as a sentence has it: a BLIP-2 or a …"""
    return join_with_or(row.noun for row in ALL.values())


def join_with_or(words: Iterable[str]) -> str:
    """The words as a sentence has them: with commas, and `or` before the last."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
