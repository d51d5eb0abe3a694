"""Pictures of nothing that the world knows: photographs, noise, text and blank pages, to be met with "I don't know".

The photographs are those that lie inside scikit-image and scikit-learn, split by file: what the exam shows, training
never sees. Knows pixels; knows no scene.
"""

from __future__ import annotations

import random
import string
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

SORTS = ("photo", "noise", "text", "blank")
WEIGHTS = (50, 22, 18, 10)

LEARNED = (
    "astronaut.png", "brick.png", "cell.png", "chelsea.png", "china.jpg", "clock_motion.png", "coins.png", "color.png",
    "grass.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png", "motorcycle_right.png", "retina.jpg",
    "text.png",
)  # fmt: skip
EXAMINED = ("camera.png", "coffee.png", "flower.jpg", "gravel.png", "moon.png", "page.png", "rocket.jpg")

LETTERS = string.ascii_letters + ".,0123456789"

KEPT = 384
"""Photographs are kept at so many pixels along their shorter side."""


def sort(draw: random.Random) -> str:
    """One of the sorts."""
    return draw.choices(SORTS, WEIGHTS)[0]


def picture(sort: str, draw: random.Random, *, files: tuple[str, ...] = LEARNED, side: int = 96) -> Image.Image:
    """A picture of that sort, `side` pixels square."""
    return {"photo": lambda: _photo(draw, files, side), "noise": lambda: _noise(draw, side)}.get(
        sort, lambda: _page(draw, side, written=sort == "text")
    )()


@cache
def _opened(file: str) -> Image.Image:
    import skimage
    import sklearn

    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images")
    path = next(folder / file for folder in folders if (folder / file).exists())
    image = Image.open(path).convert("RGB")
    image.thumbnail((4 * KEPT, 4 * KEPT))
    return ImageOps.contain(image, (2 * KEPT, KEPT) if image.width > image.height else (KEPT, 2 * KEPT))


def _photo(draw: random.Random, files: tuple[str, ...], side: int) -> Image.Image:
    """A photograph or a part of one, turned, tinted or mixed with another."""
    image = _part(draw, files, side)
    if draw.random() < 0.15:
        image = Image.blend(image, _part(draw, files, side), draw.uniform(0.2, 0.5))
    if draw.random() < 0.3:
        image = ImageOps.autocontrast(image, cutoff=draw.choice((0, 2, 10)))
    if draw.random() < 0.2:
        image = ImageOps.grayscale(image).convert("RGB")
    if draw.random() < 0.25:
        red, green, blue = image.split()
        image = Image.merge("RGB", draw.sample((red, green, blue), 3))
    return image


def _part(draw: random.Random, files: tuple[str, ...], side: int) -> Image.Image:
    whole = _opened(draw.choice(files))
    share = draw.choice((1.0, draw.uniform(0.25, 1.0)))
    wide, high = whole.width * share, whole.height * share * draw.uniform(0.7, 1.0)
    left, top = draw.uniform(0, whole.width - wide), draw.uniform(0, whole.height - high)
    part = whole.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + wide, top + high))
    part = ImageOps.mirror(part) if draw.random() < 0.5 else part
    return part.rotate(draw.choice((90, 180, 270))) if draw.random() < 0.15 else part


def _noise(draw: random.Random, side: int) -> Image.Image:
    """Noise from white to as smooth as clouds, in colours or grey; or flat patches of many colours."""
    dice = np.random.default_rng(draw.getrandbits(32))
    slope = draw.choice((0.0, 0.0, draw.uniform(0, 2.2)))
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequencies[0, 0] = 1.0
    waves = np.fft.rfft2(dice.normal(size=(3, side, side))) * frequencies**-slope
    values = np.fft.irfft2(waves, s=(side, side))
    values = (values - values.mean()) / max(1e-6, float(values.std()))
    if draw.random() < 0.3:
        values = np.broadcast_to(values[:1], values.shape)
    pixels = np.clip(values * draw.uniform(20, 75) + draw.uniform(70, 185), 0, 255)
    image = Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8))
    if draw.random() < 0.2:
        few = draw.choice((3, 5, 8, 12))
        image = image.resize((few, few)).resize(
            (side, side), draw.choice((Image.Resampling.NEAREST, Image.Resampling.BICUBIC))
        )
    return image


def _page(draw: random.Random, side: int, *, written: bool) -> Image.Image:
    """A page in one colour, and on it lines of letters, if any."""
    tones = [draw.choice((255, draw.randint(180, 255), 0, draw.randint(0, 70))) for _ in range(3)]
    paper = (tones[0],) * 3 if draw.random() < 0.7 else (tones[0], tones[1], tones[2])
    big = 3 * side
    image = Image.new("RGB", (big, big), paper)
    if written:
        canvas, dark = ImageDraw.Draw(image), sum(paper) < 382
        size = draw.choice((14, 20, 30, 44, 70))
        font = ImageFont.load_default(size)
        line = draw.uniform(0, 40)
        lines = draw.choice((1, 3, 40))
        ink = draw.randint(170, 255) if dark else draw.randint(0, 90)
        line = draw.uniform(0, big * 0.7) if lines == 1 else line
        for _ in range(lines):
            words = ["".join(draw.choices(LETTERS, k=draw.randint(1, 9))) for _ in range(9)]
            canvas.text((draw.uniform(4, 30), line), " ".join(words), (ink, ink, ink), font=font)
            line += size * 1.5
            if line > big:
                break
    elif draw.random() < 0.3:
        image = Image.blend(image, Image.linear_gradient("L").resize((big, big)).convert("RGB"), draw.uniform(0, 0.3))
    return image.resize((side, side), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(draw.choice((0, 0, 0.5))))
