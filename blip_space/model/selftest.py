"""Does a freshly loaded model see?

A checkpoint can load without a word and answer as if blind: weights that were zeroed, image slots that nobody filled.
Two pictures that differ must reach the first token differently. Knows nothing of how a model was loaded.
"""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw

from blip_space.errors import ModelError
from blip_space.model.blip2 import Blip2

LEAST_DIFFERENCE = 1e-5
"""Between the prefixes of two pictures, relative to their size; a blind model has 0."""

PROMPT = "a photo of"


def check_sight(model: Blip2) -> None:
    """Raise `ModelError` unless two made pictures give finite and different prefixes and first-token logits."""
    prefixes = model.encode(made_pictures())
    logits = torch.cat([model.first_logits(prefix[None], PROMPT) for prefix in prefixes])
    if not (prefixes.isfinite().all() and logits.isfinite().all()):
        raise ModelError(
            f"{model.spec.name} computes numbers that are not finite in {model.precision.name}, so its answers would "
            "be noise. Choose another precision, or download the checkpoint again."
        )
    if relative_difference(prefixes) <= LEAST_DIFFERENCE or torch.equal(logits[0], logits[1]):
        raise ModelError(
            f"{model.spec.name} ignores the picture: two different ones give the same first word. "
            "Its weights are damaged or not a BLIP-2's; download the checkpoint again, or choose another model."
        )


def relative_difference(pair: torch.Tensor) -> float:
    """How far the two rows of a tensor are apart, relative to the larger."""
    first, second = pair.to(torch.float32)
    scale = max(float(first.norm()), float(second.norm()))
    return float((first - second).norm()) / scale if scale else 0.0


def made_pictures(size: int = 224) -> list[Image.Image]:
    """Two pictures that no model can take for one: a red disc on white, and blue and yellow bars on black."""
    disc, bars = Image.new("RGB", (size, size), "white"), Image.new("RGB", (size, size), "black")
    ImageDraw.Draw(disc).ellipse((size // 4, size // 4, size * 3 // 4, size * 3 // 4), fill="red")
    draw = ImageDraw.Draw(bars)
    draw.rectangle((0, 0, size // 3, size), fill="blue")
    draw.rectangle((0, size * 2 // 3, size, size), fill="yellow")
    return [disc, bars]
