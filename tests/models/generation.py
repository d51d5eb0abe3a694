"""What a loaded model answers, in token ids."""

from __future__ import annotations

from PIL import Image

from blip_space.models.families.blip2 import Blip2
from blip_space.options import GenerationOptions
from tests.engine.models.driving import ids_alone, request


def new_tokens(model: Blip2, picture: Image.Image, text: str, options: GenerationOptions) -> list[int]:
    """The new tokens after a prompt that is sent as it is."""
    return ids_alone(model, request(model, picture, text, options))
