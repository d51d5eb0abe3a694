"""A lookup of bytes gives exactly the floats that arithmetic gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from blip_space.models.image_processor import CLIP_MEAN, CLIP_STD, TransformersImageProcessor, _noise
from blip_space.models.normalization import Normalization
from tests.engine.fake_gpu import GPU, FakeGpu, capturing

EXAMPLES = [_noise(84, 56), _noise(14, 28)]


def new_processor(**options: Any) -> TransformersImageProcessor:
    return TransformersImageProcessor(CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=28, **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_equals_arithmetic_in_float32(dtype: torch.dtype) -> None:
    pixels = torch.randint(256, (2, 3, 40, 50), dtype=torch.uint8)
    mean, deviation = (np.array(numbers, np.float32)[:, None, None] for numbers in (CLIP_MEAN, CLIP_STD))
    expected = torch.from_numpy((pixels.numpy().astype(np.float32) / 255 - mean) / deviation).to(dtype)
    assert torch.equal(Normalization.from_statistics(CLIP_MEAN, CLIP_STD).apply(pixels, dtype), expected)


@pytest.mark.parametrize(
    "options",
    [{}, {"do_rescale": False}, {"do_normalize": False}, {"image_std": [0.5, 0.25, 0.1]}, {"do_resize": False}],
)
def test_bytes_of_transformers_processors_become_exactly_their_floats(options: dict[str, Any]) -> None:
    processor, reference = (new_processor(**options) for _ in range(2))
    processor.use_bytes(EXAMPLES)
    for image in (_noise(50, 31), Image.new("L", (3, 90), 77)):
        pixels = processor.pixels(image)
        assert (pixels.dtype, pixels.shape) == (torch.uint8, (1, 3, 28, 28))
        assert torch.equal(processor.normalize(pixels, torch.float32), reference.pixels(image))


def test_a_processor_that_a_table_cannot_replace_makes_floats() -> None:
    """As one would that looks at neighbouring pixels, or at the whole image."""

    class Contrast(CLIPImageProcessorPil):  # type: ignore[misc]  # transformers has no types here
        def normalize(self, image: Any, *_: Any, **__: Any) -> Any:
            return image - image.mean()

    processor = TransformersImageProcessor(Contrast(size={"shortest_edge": 28}, crop_size=28))
    expected = processor.pixels(EXAMPLES[0])
    processor.use_bytes(EXAMPLES)
    pixels = processor.pixels(EXAMPLES[0])
    assert pixels.dtype == torch.float32
    assert torch.equal(processor.normalize(pixels, torch.float32), expected)


def test_a_processor_that_refuses_the_options_makes_floats() -> None:
    class Strict(CLIPImageProcessorPil):  # type: ignore[misc]  # transformers has no types here
        def __call__(self, images: Any, *, return_tensors: str) -> Any:
            return super().__call__(images, return_tensors=return_tensors)

    processor = TransformersImageProcessor(Strict(size={"shortest_edge": 28}, crop_size=28))
    processor.use_bytes(EXAMPLES)
    assert processor.pixels(EXAMPLES[0]).dtype == torch.float32


def test_a_graph_can_capture_the_lookup() -> None:
    """After a first call, which copies the table to the device."""
    with FakeGpu():
        normalization = Normalization(torch.zeros(3, 256))
        pixels = torch.empty(2, 3, 28, 28, dtype=torch.uint8, device=GPU)
        normalization.apply(pixels, torch.bfloat16)
        with capturing():
            result = normalization.apply(pixels, torch.bfloat16)
    assert (result.dtype, result.device.type, result.shape) == (torch.bfloat16, "cuda", pixels.shape)
