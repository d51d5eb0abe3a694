"""Loads the photo encoder that a checkpoint's folder may have beside its weights.

`photo_encoder.safetensors` has the network, `photo_reports.safetensors` the gate and the reports, and
`photo_encoder.json` the threshold and ImageNet's classes by concept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from blip_space.catalogue.parsing import read_json
from blip_space.errors import ModelError
from blip_space.loading.device_errors import is_device_lost
from blip_space.loading.memory import is_out_of_memory
from blip_space.models.photo_encoder import CLASSES, PhotoEncoder

NETWORK, REPORTS, CLASS_MAP = "photo_encoder.safetensors", "photo_reports.safetensors", "photo_encoder.json"


def load_photo_encoder(folder: Path, features: tuple[int, int], *, name: str, device: str) -> PhotoEncoder:
    """The photo encoder in the folder of the model `name`, whose images have `features` (positions, hidden).

    Raises `ModelError` if a file is missing or damaged, or is one for a model with other features.
    """
    try:
        settings = read_json(folder / CLASS_MAP, name=name)
        weights = load_file(folder / NETWORK) | load_file(folder / REPORTS)
        encoder = PhotoEncoder(weights, _class_matrix(settings["concepts"]), float(settings["threshold"]))
        if encoder.reports.shape[1:] != features:
            raise ValueError(f"reports of the shape {tuple(encoder.reports.shape[1:])} for {features}")
        return encoder.to(device)
    except Exception as error:  # damaged files raise errors of many types
        if is_out_of_memory(error) or is_device_lost(error):
            raise
        raise ModelError(
            f"The photo encoder of {name} ({NETWORK}, {REPORTS} and {CLASS_MAP}) cannot be loaded. Copy these files "
            "again from where the checkpoint came from, or set photo_encoder to false in its blip_space.json."
        ) from error


def _class_matrix(concepts: dict[str, list[int]]) -> Any:
    """(classes, concepts): 1 where a class belongs to a concept. Raises `ValueError` if one belongs to two."""
    matrix = torch.zeros(CLASSES, len(concepts))
    for column, classes in enumerate(concepts.values()):
        matrix[classes, column] = 1
    if matrix.sum(1).max() > 1:
        raise ValueError("a class of two concepts")
    return matrix
