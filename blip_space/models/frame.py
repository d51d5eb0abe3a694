"""Pictures become the numbers that a vision model was trained on.

Knows size, mean and deviation of one checkpoint; knows nothing of files that a person sends (`images` decodes those).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from blip_space.errors import ModelError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
COPY_AGAIN = "Copy it again from where the checkpoint came from"


@dataclass(frozen=True)
class ImageProcessor:
    """One checkpoint's preprocessing: every picture is squashed to `size` x `size` pixels, then normalised."""

    size: int
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resample: Image.Resampling = Image.Resampling.BICUBIC

    def pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Float32 of shape (n, 3, size, size), on the CPU."""
        rgb = (picture if picture.mode == "RGB" else picture.convert("RGB") for picture in pictures)
        squashed = [picture.resize((self.size, self.size), self.resample) for picture in rgb]
        stacked = np.stack([np.asarray(picture, dtype=np.float32) for picture in squashed])
        normal = (stacked / 255 - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())


def load_image_processor(folder: Path, *, size: int, name: str) -> ImageProcessor:
    """The frame of a checkpoint whose vision model takes `size` x `size` pixels; `ModelError`, which calls the model
    `name`, where its file cannot be read.

    The size is the vision model's, since its position embeddings take no other; mean, deviation and filter come from
    `preprocessor_config.json` (newer: `processor_config.json`), and are CLIP's where it is silent.
    """
    try:
        return _read(folder, size)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"How {name} wants its pictures (preprocessor_config.json) cannot be read. {COPY_AGAIN}."
        ) from error


def _read(folder: Path, size: int) -> ImageProcessor:
    row = _json(folder / "preprocessor_config.json") or _json(folder / "processor_config.json").get(
        "image_processor", {}
    )
    return ImageProcessor(
        size=size,
        mean=_three(row.get("image_mean") or CLIP_MEAN),
        std=_three(row.get("image_std") or CLIP_STD),
        resample=Image.Resampling(row.get("resample", Image.Resampling.BICUBIC)),
    )


def _three(values: Sequence[Any]) -> tuple[float, ...]:
    """One number for each colour; `ValueError` where there are others."""
    if len(values) != 3:
        raise ValueError(f"{len(values)} numbers for three colours")
    return tuple(float(value) for value in values)


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
