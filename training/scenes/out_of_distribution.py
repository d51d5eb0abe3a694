"""Out-of-distribution images (photographs, noise, text, blank pages), for which the answer is "I don't know".

Photographs are scikit-image's and scikit-learn's, split by file for training and evaluation. Must not import `scene`.
"""

from __future__ import annotations

import random
import string
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

KINDS = ("photo", "noise", "text", "blank")
WEIGHTS = (50, 22, 18, 10)

TRAINING_FILES = (
    "astronaut.png", "brick.png", "cell.png", "chelsea.png", "china.jpg", "clock_motion.png", "coins.png", "color.png",
    "grass.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png", "motorcycle_right.png", "retina.jpg",
    "text.png",
)  # fmt: skip
EVALUATION_FILES = ("camera.png", "coffee.png", "flower.jpg", "gravel.png", "moon.png", "page.png", "rocket.jpg")

LETTERS = string.ascii_letters + ".,0123456789"

PHOTO_SIDE = 384
"""The shorter side of a photograph in memory, in pixels."""


def sample_kind(rng: random.Random) -> str:
    """A random kind of out-of-distribution image."""
    return rng.choices(KINDS, WEIGHTS)[0]


def sample_image(kind: str, rng: random.Random, *, files: tuple[str, ...], side: int) -> Image.Image:
    """A random image of `kind`, `side` pixels square; photographs are drawn from `files`."""
    return {"photo": lambda: _sample_photo(rng, files, side), "noise": lambda: _sample_noise(rng, side)}.get(
        kind, lambda: _sample_page(rng, side, with_text=kind == "text")
    )()


def find_photo(file: str) -> Path:
    """The path of a photograph of that name in scikit-image or scikit-learn."""
    import skimage
    import sklearn

    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images")
    return next(folder / file for folder in folders if (folder / file).exists())


@cache
def _load_photo(file: str) -> Image.Image:
    image = Image.open(find_photo(file)).convert("RGB")
    image.thumbnail((4 * PHOTO_SIDE, 4 * PHOTO_SIDE))
    size = (2 * PHOTO_SIDE, PHOTO_SIDE) if image.width > image.height else (PHOTO_SIDE, 2 * PHOTO_SIDE)
    return ImageOps.contain(image, size)


def _sample_photo(rng: random.Random, files: tuple[str, ...], side: int) -> Image.Image:
    """A photograph or a crop of one, possibly rotated, recoloured or blended with another photograph."""
    image = _sample_crop(rng, files, side)
    if rng.random() < 0.15:
        image = Image.blend(image, _sample_crop(rng, files, side), rng.uniform(0.2, 0.5))
    if rng.random() < 0.3:
        image = ImageOps.autocontrast(image, cutoff=rng.choice((0, 2, 10)))
    if rng.random() < 0.2:
        image = ImageOps.grayscale(image).convert("RGB")
    if rng.random() < 0.25:
        red, green, blue = image.split()
        image = Image.merge("RGB", rng.sample((red, green, blue), 3))
    return image


def _sample_crop(rng: random.Random, files: tuple[str, ...], side: int) -> Image.Image:
    photo = _load_photo(rng.choice(files))
    share = rng.choice((1.0, rng.uniform(0.25, 1.0)))
    width, height = photo.width * share, photo.height * share * rng.uniform(0.7, 1.0)
    left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
    crop = photo.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    crop = ImageOps.mirror(crop) if rng.random() < 0.5 else crop
    return crop.rotate(rng.choice((90, 180, 270))) if rng.random() < 0.15 else crop


def _sample_noise(rng: random.Random, side: int) -> Image.Image:
    """An image of noise, from white to very smooth, coloured or grey; or of flat patches in many colours."""
    numpy_rng = np.random.default_rng(rng.getrandbits(32))
    slope = rng.choice((0.0, 0.0, rng.uniform(0, 2.2)))
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequencies[0, 0] = 1.0
    waves = np.fft.rfft2(numpy_rng.normal(size=(3, side, side))) * frequencies**-slope
    values = np.fft.irfft2(waves, s=(side, side))
    values = (values - values.mean()) / max(1e-6, float(values.std()))
    if rng.random() < 0.3:
        values = np.broadcast_to(values[:1], values.shape)
    pixels = np.clip(values * rng.uniform(20, 75) + rng.uniform(70, 185), 0, 255)
    image = Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8))
    if rng.random() < 0.2:
        cells = rng.choice((3, 5, 8, 12))
        image = image.resize((cells, cells)).resize(
            (side, side), rng.choice((Image.Resampling.NEAREST, Image.Resampling.BICUBIC))
        )
    return image


def _sample_page(rng: random.Random, side: int, *, with_text: bool) -> Image.Image:
    """A page of one colour, blank or with lines of letters."""
    tone_choices = [rng.choice((255, rng.randint(180, 255), 0, rng.randint(0, 70))) for _ in range(3)]
    colour = (tone_choices[0],) * 3 if rng.random() < 0.7 else (tone_choices[0], tone_choices[1], tone_choices[2])
    canvas_side = 3 * side
    image = Image.new("RGB", (canvas_side, canvas_side), colour)
    if with_text:
        canvas, dark = ImageDraw.Draw(image), sum(colour) < 382
        size = rng.choice((14, 20, 30, 44, 70))
        font = ImageFont.load_default(size)
        top = rng.uniform(0, 40)
        number_of_lines = rng.choice((1, 3, 40))
        tone = rng.randint(170, 255) if dark else rng.randint(0, 90)
        top = rng.uniform(0, canvas_side * 0.7) if number_of_lines == 1 else top
        for _ in range(number_of_lines):
            line_words = ["".join(rng.choices(LETTERS, k=rng.randint(1, 9))) for _ in range(9)]
            canvas.text((rng.uniform(4, 30), top), " ".join(line_words), (tone, tone, tone), font=font)
            top += size * 1.5
            if top > canvas_side:
                break
    elif rng.random() < 0.3:
        image = Image.blend(
            image, Image.linear_gradient("L").resize((canvas_side, canvas_side)).convert("RGB"), rng.uniform(0, 0.3)
        )
    return image.resize((side, side), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(rng.choice((0, 0, 0.5))))
