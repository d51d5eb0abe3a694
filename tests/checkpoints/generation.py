"""What a loaded model computes from images and texts: features, logits, and answers as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from blip_space.catalogue import ModelSpec
from blip_space.loading import selftest
from blip_space.models.families.blip2 import Blip2, Blip2Preparation
from blip_space.models.interface import Embedded, VisionLanguageModel
from blip_space.models.preparation import Preparation
from blip_space.options import GenerationOptions
from tests.engine.models.driving import generate_alone, make_request, prompt_of

OPTIONS = GenerationOptions()


def new_tokens(model: VisionLanguageModel, image: Image.Image, text: str, options: GenerationOptions) -> list[int]:
    """The new tokens after a prompt that is used unchanged."""
    return generate_alone(model, make_request(model, image, text, options))


def image_features(model: VisionLanguageModel, images: Sequence[Image.Image]) -> torch.Tensor:
    """The features of images that are encoded as one batch, (images, positions, hidden)."""
    return torch.stack(model.encode_images([model.preparation.pixels(image, OPTIONS) for image in images]))


def embed_text(model: VisionLanguageModel, features: torch.Tensor, text: str) -> Embedded:
    """The features (positions, hidden) of one image and then an unchanged text, as the decoder reads them."""
    return model.embed(prompt_of(model.preparation, text, ""), [features])


def first_logits(model: VisionLanguageModel, features: torch.Tensor, text: str) -> torch.Tensor:
    """The logits (1, vocabulary) of the first token after that prompt."""
    return selftest.first_logits(model.decoder, embed_text(model, features, text))


def image_positions(preparation: Preparation) -> int:
    """The number of an image's positions."""
    return preparation.image_positions(0, 0, OPTIONS)


def blip2_preparation(preparation: Preparation) -> Blip2Preparation:
    """The same preparation, checked to be a BLIP-2's."""
    assert isinstance(preparation, Blip2Preparation)
    return preparation


def with_hf_model(model: VisionLanguageModel, hf_model: Any, spec: ModelSpec) -> Blip2:
    """Another model of transformers with that spec, and with the preparation and the precision of `model`."""
    preparation = replace(blip2_preparation(model.preparation), spec=spec)
    return Blip2(hf_model, preparation, precision=model.precision)
