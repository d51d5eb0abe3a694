"""What each model needs to prepare a request: loaded once, on the thread of the first caller who needs it.

Depends on a function that loads it; must not import torch itself, so that the page is up before that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.models.preparation import Preparation

LoadPreparation = Callable[[ModelSpec], Preparation]

IMPORT_LOCK = threading.Lock()
"""Held by the first thread that imports the model's libraries: two that do so at once may see half of a module."""


class Preparations:
    """By model; from any thread. What could not be loaded is tried again by the next caller."""

    def __init__(self, specs: Iterable[ModelSpec], load: LoadPreparation | None = None) -> None:
        """`load` is `loading.preparation.load_preparation` by default."""
        self._load = load or _load
        self._loaded: dict[str, Preparation] = {}
        self._locks = {spec.name: threading.Lock() for spec in specs}

    def get(self, spec: ModelSpec) -> Preparation:
        """The model's preparation. `ModelError` where its files cannot be had or read."""
        loaded = self._loaded.get(spec.name)
        if loaded is not None:
            return loaded
        with self._locks[spec.name]:
            if spec.name not in self._loaded:
                self._loaded[spec.name] = self._load(spec)
            return self._loaded[spec.name]


def import_model_libraries() -> None:
    """Import what loads models, from one thread at a time."""
    with IMPORT_LOCK:
        import blip_space.loading.loader  # noqa: F401


def _load(spec: ModelSpec) -> Any:
    import_model_libraries()
    from blip_space.loading.preparation import load_preparation

    return load_preparation(spec)
