"""What a loaded model makes of pictures and texts: features, logits, and answers in token ids."""

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


def new_tokens(model: VisionLanguageModel, picture: Image.Image, text: str, options: GenerationOptions) -> list[int]:
    """The new tokens after a prompt that is sent as it is."""
    return generate_alone(model, make_request(model, picture, text, options))


def image_features(model: VisionLanguageModel, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """The features of pictures that are encoded as one batch, (pictures, positions, hidden)."""
    return torch.stack(model.encode_images([model.preparation.pixels(picture, OPTIONS) for picture in pictures]))


def embed_text(model: VisionLanguageModel, features: torch.Tensor, text: str) -> Embedded:
    """A text as it is behind the features (positions, hidden) of one image, as the decoder reads it."""
    return model.embed(prompt_of(model.preparation, text, ""), [features])


def first_logits(model: VisionLanguageModel, features: torch.Tensor, text: str) -> torch.Tensor:
    """The logits (1, vocabulary) of the first token after that prompt."""
    return selftest.first_logits(model.decoder, embed_text(model, features, text))


def image_positions(preparation: Preparation) -> int:
    """How many positions an image takes."""
    return preparation.image_positions(0, 0, OPTIONS)


def blip2_preparation(preparation: Preparation) -> Blip2Preparation:
    """A preparation that is known to be a BLIP-2's."""
    assert isinstance(preparation, Blip2Preparation)
    return preparation


def with_hf_model(model: VisionLanguageModel, network: Any, spec: ModelSpec) -> Blip2:
    """Another network as a model of that row, with the preparation and the precision of `model`."""
    preparation = replace(blip2_preparation(model.preparation), spec=spec)
    return Blip2(network, preparation, precision=model.precision)
