"""Images of one object under hard conditions: degraded, at unusual sizes and angles, on difficult backgrounds.

A condition is a function of the sprites, an object's kind and a random generator. Must not import `model` or `lexicon`.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.scenes.colours import RGB, WHITE
from training.scenes.layouts import Box
from training.scenes.scene import Scene, SceneObject
from training.scenes.sprite_cache import SpriteCache

SIDE = 224
"""The side of these images in pixels, before the model's processor resizes them."""

Condition = Callable[[SpriteCache, str, random.Random], Image.Image]


def _on_colour(
    sprites: SpriteCache, kind: str, rng: random.Random, *, size: float = 0.6, angle: float = 0.0, colour: RGB = WHITE
) -> Image.Image:
    return _on_image(Image.new("RGB", (SIDE, SIDE), colour), sprites, kind, rng, size=size, angle=angle)


def _on_image(
    image: Image.Image, sprites: SpriteCache, kind: str, rng: random.Random, *, size: float = 0.6, angle: float = 0.0
) -> Image.Image:
    obj = SceneObject(kind, None, Box(SIDE / 2, SIDE / 2, SIDE * size), (0, 0, 0), angle=angle, variant=rng.random())
    sprites.paste(Scene(SIDE, SIDE, ((0, 0, 0), (0, 0, 0)), (obj,)), image)
    return image


def _jpeg(sprites: SpriteCache, kind: str, rng: random.Random) -> Image.Image:
    buffer = io.BytesIO()
    _on_colour(sprites, kind, rng).save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def _busy_background(sprites: SpriteCache, kind: str, rng: random.Random) -> Image.Image:
    numpy_rng = np.random.default_rng(rng.getrandbits(32))
    patches = numpy_rng.integers(90, 256, (7, 7, 3)).astype(np.uint8)
    return _on_image(Image.fromarray(patches).resize((SIDE, SIDE), Image.Resampling.BICUBIC), sprites, kind, rng)


def _screenshot(sprites: SpriteCache, kind: str, rng: random.Random) -> Image.Image:
    """The object in a window that has a title bar with buttons, and a line of text at the bottom."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    canvas = ImageDraw.Draw(image)
    canvas.rectangle((0, 0, SIDE, 24), fill=(222, 225, 230))
    for index, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        canvas.ellipse((8 + 14 * index, 8, 17 + 14 * index, 17), fill=colour)
    canvas.rounded_rectangle((60, 5, SIDE - 10, 19), radius=6, fill="white")
    canvas.text((8, SIDE - 16), "Done  3 files, 2.1 MB", fill=(90, 90, 90))
    return _on_image(image, sprites, kind, rng, size=0.5)


CONDITIONS: dict[str, Condition] = {
    "plain, on white": _on_colour,
    "JPEG, quality 30": _jpeg,
    "blurred": lambda sprites, kind, rng: _on_colour(sprites, kind, rng).filter(ImageFilter.GaussianBlur(3)),
    "grey": lambda sprites, kind, rng: _on_colour(sprites, kind, rng).convert("L").convert("RGB"),
    "turned by 30°": lambda sprites, kind, rng: _on_colour(sprites, kind, rng, angle=rng.choice((-30, 30))),
    "tiny (24 of 224 pixels)": lambda sprites, kind, rng: _on_colour(sprites, kind, rng, size=24 / SIDE),
    "huge (cut by the edges)": lambda sprites, kind, rng: _on_colour(sprites, kind, rng, size=1.2),
    "screenshot with a window around": _screenshot,
    "on a dark background": lambda sprites, kind, rng: _on_colour(sprites, kind, rng, colour=(28, 28, 34)),
    "on a busy background": _busy_background,
}
