"""Images become pixel values by the checkpoint's own image processor, as transformers reads it.

Depends on transformers' processors on Pillow, which give the same numbers whatever else is installed; must not import a
family. Nothing is changed after construction, so any number of threads may use one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor

from blip_space.errors import ModelError
from blip_space.models.frame import COPY_AGAIN

MAX_ASPECT_RATIO = 16
"""Of an image whose middle square is seen, no more than so many times its shorter side is resized: a strip of one pixel
by a million would become 336 by 336 million."""


class TransformersImageProcessor:
    """One checkpoint's preprocessing into images of `size` x `size` pixels."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._crops = bool(getattr(processor, "do_center_crop", False))

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Float32 of shape (1, 3, size, size), on the CPU."""
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        seen = middle(rgb) if self._crops else rgb
        made: torch.Tensor = self._processor(images=[seen], return_tensors="pt")["pixel_values"]
        return made.to(torch.float32)


def middle(image: Image.Image) -> Image.Image:
    """The middle of an image that is much longer than wide or the other way round, and any other image as it is."""
    width, height = image.size
    over = max(image.size) - MAX_ASPECT_RATIO * min(image.size)
    if over <= 1:
        return image
    left, top = (over // 2, 0) if width > height else (0, over // 2)
    return image.crop((left, top, width - left, height - top))


def load_transformers_image_processor(folder: Path, *, size: int, name: str) -> TransformersImageProcessor:
    """The image processor of a checkpoint whose vision encoder takes `size` x `size` pixels; `ModelError`, which calls
    the model `name`, where its file is missing, cannot be read or makes images of another size."""
    try:
        processor = TransformersImageProcessor(
            AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
        )
        made = tuple(processor.pixels(Image.new("RGB", (3 * size, 2 * size))).shape)
    except Exception as error:  # the file is not ours, and its checks raise what they like
        raise ModelError(
            f"How {name} wants its images (preprocessor_config.json) cannot be read. {COPY_AGAIN}."
        ) from error
    if made != (1, 3, size, size):
        raise ModelError(
            f"preprocessor_config.json of {name} makes images of {' x '.join(map(str, made[2:]))} pixels, and its "
            f"vision encoder takes {size} x {size}. Its files belong to two models; copy them from the same place."
        )
    return processor
