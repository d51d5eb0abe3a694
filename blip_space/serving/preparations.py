"""Each model's tokenizer and image processor, loaded once, on the thread of the first caller that needs them.

Must not import torch at module level, so that the page is up before torch is imported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.models.preparation import Preparation

LoadPreparation = Callable[[ModelSpec], Preparation]

IMPORT_LOCK = threading.Lock()
"""Held for the import of the model's libraries: two threads at once may see a partially initialized module."""


class Preparations:
    """The preparation of each model. Any thread may call `get`; a failed load is retried by the next call."""

    def __init__(self, specs: Iterable[ModelSpec], load: LoadPreparation | None = None) -> None:
        """`load` is `loading.preparation.load_preparation` by default."""
        self._load = load or _load_preparation
        self._loaded: dict[str, Preparation] = {}
        self._locks = {spec.name: threading.Lock() for spec in specs}

    def get(self, spec: ModelSpec) -> Preparation:
        """The model's preparation. Raises `ModelError` if its files cannot be downloaded or read."""
        loaded = self._loaded.get(spec.name)
        if loaded is not None:
            return loaded
        with self._locks[spec.name]:
            if spec.name not in self._loaded:
                self._loaded[spec.name] = self._load(spec)
            return self._loaded[spec.name]


def import_model_libraries() -> None:
    """Import the loader and torch, from one thread at a time."""
    with IMPORT_LOCK:
        import blip_space.loading.loader  # noqa: F401


def _load_preparation(spec: ModelSpec) -> Any:
    import_model_libraries()
    from blip_space.loading.preparation import load_preparation

    return load_preparation(spec)
