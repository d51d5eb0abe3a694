"""What loading needs of a family: transformers' classes, its parts, and how its small files are read.

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
    """One family; what is known of it without torch is its row in `catalogue.families`, of the same name.

    `unquantised` are the parts and layers that keep their 16 bits where others are quantised, by their last name;
    `packed` are the parts whose linear layers are packed for a processor; `heads` are the network's names of the
    weights of the language model's output layer. `language_model` gives the part that an adapter may have been
    trained on alone, and `lm_head` the layer of `heads`.
    """

    config_class: type[Any]
    model_class: Callable[[], type[Any]]
    """Imports the network's class, which preparing a request does without."""

    unquantized_modules: tuple[str, ...]
    packed_modules: Callable[[Any], list[torch.nn.Module]]
    lm_head_weights: tuple[str, ...]
    language_model: Callable[[Any], Any]
    lm_head: Callable[[Any], Any]
    load_preparation: Callable[[ModelSpec, Path, Any], Preparation]
    """From a row, the folder and its configuration."""

    build: Callable[[Any, Preparation, Precision], VisionLanguageModel]
    """From a network, its preparation and its precision."""
