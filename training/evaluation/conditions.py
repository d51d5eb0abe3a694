"""One thing under hard conditions: what happens to pictures on their way to a model, and things of awkward sizes.

Each condition is a function of a drawing and a seed. Knows pixels; knows no model and no words.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.scenes.colours import RGB
from training.scenes.layouts import Box
from training.scenes.scene import Scene, Thing
from training.scenes.sprite_cache import Album

SIDE = 224
"""Pictures are drawn at this size, before the model's processor makes them smaller."""

Condition = Callable[[Album, str, random.Random], Image.Image]


def _plain(
    album: Album, kind: str, draw: random.Random, *, size: float = 0.6, angle: float = 0.0, paper: RGB = (255, 255, 255)
) -> Image.Image:
    return _on(Image.new("RGB", (SIDE, SIDE), paper), album, kind, draw, size=size, angle=angle)


def _on(
    paper: Image.Image, album: Album, kind: str, draw: random.Random, *, size: float = 0.6, angle: float = 0.0
) -> Image.Image:
    thing = Thing(kind, None, Box(SIDE / 2, SIDE / 2, SIDE * size), (0, 0, 0), angle=angle, hand=draw.random())
    album.lay(Scene(SIDE, SIDE, ((0, 0, 0), (0, 0, 0)), (thing,)), paper)
    return paper


def _jpeg(album: Album, kind: str, draw: random.Random) -> Image.Image:
    buffer = io.BytesIO()
    _plain(album, kind, draw).save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def _busy(album: Album, kind: str, draw: random.Random) -> Image.Image:
    dice = np.random.default_rng(draw.getrandbits(32))
    patches = dice.integers(90, 256, (7, 7, 3)).astype(np.uint8)
    return _on(Image.fromarray(patches).resize((SIDE, SIDE), Image.Resampling.BICUBIC), album, kind, draw)


def _screenshot(album: Album, kind: str, draw: random.Random) -> Image.Image:
    """A window with a bar of buttons above and a line of words below."""
    paper = Image.new("RGB", (SIDE, SIDE), "white")
    canvas = ImageDraw.Draw(paper)
    canvas.rectangle((0, 0, SIDE, 24), fill=(222, 225, 230))
    for place, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        canvas.ellipse((8 + 14 * place, 8, 17 + 14 * place, 17), fill=colour)
    canvas.rounded_rectangle((60, 5, SIDE - 10, 19), radius=6, fill="white")
    canvas.text((8, SIDE - 16), "Done  3 files, 2.1 MB", fill=(90, 90, 90))
    return _on(paper, album, kind, draw, size=0.5)


CONDITIONS: dict[str, Condition] = {
    "plain, on white": _plain,
    "JPEG, quality 30": _jpeg,
    "blurred": lambda album, kind, draw: _plain(album, kind, draw).filter(ImageFilter.GaussianBlur(3)),
    "grey": lambda album, kind, draw: _plain(album, kind, draw).convert("L").convert("RGB"),
    "turned by 30°": lambda album, kind, draw: _plain(album, kind, draw, angle=draw.choice((-30, 30))),
    "tiny (24 of 224 pixels)": lambda album, kind, draw: _plain(album, kind, draw, size=24 / SIDE),
    "huge (cut by the edges)": lambda album, kind, draw: _plain(album, kind, draw, size=1.2),
    "screenshot with a window around": _screenshot,
    "on a dark background": lambda album, kind, draw: _plain(album, kind, draw, paper=(28, 28, 34)),
    "on a busy background": _busy,
}
