"""Converts images to pixel values as one checkpoint expects them: bytes, which are normalized on the model's device.

Must not import a family; untrusted files are decoded elsewhere (`images`). Nothing changes after construction, so any
number of threads may use a processor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor

from blip_space.errors import ModelError
from blip_space.images import Resize
from blip_space.models.normalization import VALUES, Normalization

log = logging.getLogger(__name__)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

MAX_ASPECT_RATIO = 16
"""The maximum ratio of an image's sides before a center crop; longer ends are cut off first. Without it a strip of one
pixel by a million would be resized to 336 by 336 million pixels."""

AS_BYTES = {"do_rescale": False, "do_normalize": False}
"""Options with which transformers' image processors return bytes."""

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

    @property
    def resize(self) -> Resize:
        """What every image is resized to; Pillow copies an image that has this size."""
        return Resize(self.size, self.size, self.resample)

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """The pixel values as bytes (n, 3, size, size), on the CPU."""
        return to_bytes([self.resize.apply(to_rgb(image)) for image in images])

    def normalize(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Pixel values (n, 3, size, size), on any device, as the vision encoder takes them."""
        return self._normalization.apply(pixels, dtype)

    @cached_property
    def _normalization(self) -> Normalization:
        return Normalization.from_statistics(self.mean, self.std)


class TransformersImageProcessor:
    """transformers' own image processor on Pillow: the numbers do not depend on what else is installed."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._crops = bool(getattr(processor, "do_center_crop", False))
        self._normalization: Normalization | None = None

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """The pixel values (1, 3, size, size), on the CPU: bytes, or float32 without `use_bytes`."""
        image = _crop_strip(to_rgb(image)) if self._crops else to_rgb(image)
        if self._normalization is not None:
            return self._process(image, **AS_BYTES)
        return self._process(image).to(torch.float32)

    def normalize(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Pixel values (n, 3, size, size), on any device, as the vision encoder takes them."""
        return pixels.to(dtype) if self._normalization is None else self._normalization.apply(pixels, dtype)

    def use_bytes(self, examples: Sequence[Image.Image]) -> None:
        """Let `pixels` return bytes from now on, if the processor makes exactly the same of these examples so."""
        try:
            as_floats = [self.pixels(image) for image in examples]
            ramp = Image.fromarray(np.arange(VALUES, dtype=np.uint8).reshape(16, 16)).convert("RGB")
            table = self._process(ramp, do_resize=False, do_center_crop=False, do_pad=False)
            self._normalization = Normalization(table.to(torch.float32).reshape(3, VALUES))
            as_bytes = [self.pixels(image) for image in examples]
            is_equal = all(part.dtype == torch.uint8 for part in as_bytes) and all(
                torch.equal(self.normalize(part, torch.float32), expected)
                for part, expected in zip(as_bytes, as_floats, strict=True)
            )
        except Exception as error:  # a processor of another class may do anything with these options
            log.info("images are normalized by the image processor: %s", error)
            is_equal = False
        if not is_equal:
            self._normalization = None

    def _process(self, image: Image.Image, **options: Any) -> torch.Tensor:
        pixels: torch.Tensor = self._processor(images=[image], return_tensors="pt", **options)["pixel_values"]
        return pixels


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
        examples = [_noise(3 * size, 2 * size), _noise(size // 2, size)]
        shape = tuple(processor.pixels(examples[0]).shape)
        processor.use_bytes(examples)
    except Exception as error:  # the checks of an arbitrary file may raise anything
        raise ModelError(UNREADABLE.format(name=name)) from error
    if shape != (1, 3, size, size):
        raise ModelError(
            f"preprocessor_config.json of {name} makes images of {' x '.join(map(str, shape[2:]))} pixels, and its "
            f"vision encoder takes {size} x {size}. Its files belong to two models; copy them from the same place."
        )
    return processor


def to_bytes(images: Sequence[Image.Image]) -> torch.Tensor:
    """RGB images of one size as bytes (n, 3, height, width), on the CPU."""
    stacked = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _noise(width: int, height: int) -> Image.Image:
    """An image in which every value of a byte occurs in every channel."""
    noise = np.random.default_rng(0).integers(0, VALUES, (max(1, height), max(1, width), 3), dtype=np.uint8)
    return Image.fromarray(noise)


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
