"""What the loader needs of a family: transformers' classes, the model's modules, and how its preparation is loaded.

Depends on the interface; must not import a family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from blip_space.catalogue import ModelSpec
from blip_space.models.interface import Precision, VisionLanguageModel
from blip_space.models.preparation import Preparation


@dataclass(frozen=True)
class Family:
    """One family; the module of the same name in `catalogue.families` has the facts that need no torch.

    `unquantized_modules` are the last names of modules and layers that keep 16 bits when others are quantized;
    `packed_modules` returns the modules whose linear layers are packed on a CPU. `lm_head_weights` are the names of the
    weights of the output layer, which `lm_head` returns. `language_model` returns the language model, on which alone an
    adapter may have been trained.
    """

    config_class: type[Any]
    model_class: Callable[[], type[Any]]
    """Imports and returns transformers' model class, which is not needed to prepare a request."""

    unquantized_modules: tuple[str, ...]
    packed_modules: Callable[[Any], list[torch.nn.Module]]
    lm_head_weights: tuple[str, ...]
    language_model: Callable[[Any], Any]
    lm_head: Callable[[Any], Any]
    load_preparation: Callable[[ModelSpec, Path, Any], Preparation]
    """Takes the model's spec, its folder and its configuration."""

    build: Callable[[Any, Preparation, Precision], VisionLanguageModel]
    """Takes transformers' model, its preparation and its precision."""
