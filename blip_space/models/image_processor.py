"""Converts images to pixel values as one checkpoint expects them.

Must not import a family; untrusted files are decoded elsewhere (`images`). Nothing changes after construction, so any
number of threads may use a processor.
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
from transformers import AutoImageProcessor

from blip_space.errors import ModelError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

MAX_ASPECT_RATIO = 16
"""The maximum ratio of an image's sides before a center crop; longer ends are cut off first. Without it a strip of one
pixel by a million would be resized to 336 by 336 million pixels."""

UNREADABLE = (
    "The image processor of {name} (preprocessor_config.json) cannot be read. Copy it again from where the checkpoint "
    "came from."
)


@dataclass(frozen=True)
class ImageProcessor:
    """Resizes every image to `size` x `size` pixels, whatever its shape, and normalizes it."""

    size: int
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    resample: Image.Resampling = Image.Resampling.BICUBIC

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """The pixel values, float32 (n, 3, size, size), on the CPU."""
        resized = [_to_rgb(image).resize((self.size, self.size), self.resample) for image in images]
        stacked = np.stack([np.asarray(image, dtype=np.float32) for image in resized])
        normalized = (stacked / 255 - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(normalized.transpose(0, 3, 1, 2).copy())


class TransformersImageProcessor:
    """transformers' own image processor on Pillow: the numbers do not depend on what else is installed."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._crops = bool(getattr(processor, "do_center_crop", False))

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """The pixel values, float32 (1, 3, size, size), on the CPU."""
        image = _crop_strip(_to_rgb(image)) if self._crops else _to_rgb(image)
        pixels: torch.Tensor = self._processor(images=[image], return_tensors="pt")["pixel_values"]
        return pixels.to(torch.float32)


def load_image_processor(folder: Path, *, size: int, name: str) -> ImageProcessor:
    """The image processor of a checkpoint whose vision encoder takes `size` x `size` pixels. Raises `ModelError`, which
    calls the model `name`, if its file cannot be read.

    The size is the vision encoder's, since its position embeddings take no other; mean, deviation and filter come from
    `preprocessor_config.json` (newer: `processor_config.json`), or are CLIP's if the file has none.
    """
    try:
        config = _read_object(folder / "preprocessor_config.json")
        config = config or _read_object(folder / "processor_config.json").get("image_processor", {})
        return ImageProcessor(
            size=size,
            mean=_rgb_values(config.get("image_mean") or CLIP_MEAN),
            std=_rgb_values(config.get("image_std") or CLIP_STD),
            resample=Image.Resampling(config.get("resample", Image.Resampling.BICUBIC)),
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(UNREADABLE.format(name=name)) from error


def load_transformers_image_processor(folder: Path, *, size: int, name: str) -> TransformersImageProcessor:
    """transformers' own image processor of a checkpoint. Raises `ModelError` like `load_image_processor`, and if the
    files are missing or for another image size."""
    try:
        loaded = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
        processor = TransformersImageProcessor(loaded)
        shape = tuple(processor.pixels(Image.new("RGB", (3 * size, 2 * size))).shape)
    except Exception as error:  # the checks of an arbitrary file may raise anything
        raise ModelError(UNREADABLE.format(name=name)) from error
    if shape != (1, 3, size, size):
        raise ModelError(
            f"preprocessor_config.json of {name} makes images of {' x '.join(map(str, shape[2:]))} pixels, and its "
            f"vision encoder takes {size} x {size}. Its files belong to two models; copy them from the same place."
        )
    return processor


def _to_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _crop_strip(image: Image.Image) -> Image.Image:
    """The middle of an image whose aspect ratio is above the maximum; any other image unchanged."""
    width, height = image.size
    excess = max(image.size) - MAX_ASPECT_RATIO * min(image.size)
    if excess <= 1:
        return image
    left, top = (excess // 2, 0) if width > height else (0, excess // 2)
    return image.crop((left, top, width - left, height - top))


def _rgb_values(values: Sequence[Any]) -> tuple[float, ...]:
    """The numbers of the three colour channels; raises `ValueError` for any other count."""
    if len(values) != 3:
        raise ValueError(f"{len(values)} numbers for three colours")
    return tuple(float(value) for value in values)


def _read_object(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}
