"""Images become exactly the pixel values that transformers' own processor makes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_space.models.image_processor import CLIP_MEAN, CLIP_STD, ImageProcessor, load_image_processor


@pytest.mark.parametrize("size", [(28, 28), (300, 200), (1, 1), (3, 500)])
def test_pixels_equal_the_processors(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    processor = BlipImageProcessorPil(size={"height": 56, "width": 56})
    expected = processor(image, return_tensors="pt")["pixel_values"]
    pixels = ImageProcessor(56).pixels([image])
    assert pixels.dtype == torch.uint8
    assert torch.allclose(ImageProcessor(56).normalize(pixels, torch.float32), expected, atol=1e-6)


def test_pixels_of_a_batch_equal_those_of_each_image() -> None:
    images = [Image.new("RGB", (9, 5), colour) for colour in ("red", "blue")]
    assert torch.equal(
        ImageProcessor(14).pixels(images), torch.cat([ImageProcessor(14).pixels([image]) for image in images])
    )


def test_the_default_is_clips_normalization(tmp_path: Path) -> None:
    assert load_image_processor(tmp_path, size=364, name="x") == ImageProcessor(364, CLIP_MEAN, CLIP_STD)


@pytest.mark.parametrize("nested", [False, True])
def test_mean_and_deviation_come_from_the_folder(tmp_path: Path, nested: bool) -> None:
    config = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "resample": 2}
    name = "processor_config.json" if nested else "preprocessor_config.json"
    (tmp_path / name).write_text(json.dumps({"image_processor": config} if nested else config))
    processor = load_image_processor(tmp_path, size=28, name="x")
    assert (processor.mean, processor.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert processor.resample == Image.Resampling.BILINEAR
