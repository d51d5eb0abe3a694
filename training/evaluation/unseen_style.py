"""Flat shapes in a drawing style that training never uses: what a user would draw with Pillow in a minute.

Images have CSS colours, no smoothing, usual sizes, and mostly white backgrounds; shapes are the simplest ellipses,
rectangles and polygons. Uses only `Scene` and `SceneObject` of training, so that the same questions apply.
"""

from __future__ import annotations

import math
import random

from PIL import Image, ImageColor, ImageDraw

from training.scenes.layouts import Box
from training.scenes.scene import SHAPES, Scene, SceneObject, sort_in_reading_order

SIZES = ((224, 224), (224, 224), (300, 300), (400, 200), (640, 480), (320, 240), (512, 512), (200, 400))
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "pink", "brown")
BACKGROUNDS = ("white", "white", "white", "white", "lightgrey", "lightyellow", "black", "navy")
DARK_BACKGROUNDS = ("black", "navy")
LOW_CONTRAST = {
    "black": ("black", "brown", "purple", "blue"),
    "navy": ("black", "brown", "purple", "blue"),
    "lightgrey": ("pink",),
    "lightyellow": ("yellow", "pink"),
}


def draw_image(seed: int, index: int) -> tuple[Image.Image, Scene]:
    """The image `index` of a seed, and its scene: zero to five objects, in a row, in a column or anywhere."""
    rng = random.Random(f"plain/{seed}/{index}")
    width, height = rng.choice(SIZES)
    background = rng.choice(BACKGROUNDS)
    image = Image.new("RGB", (width, height), background)
    canvas = ImageDraw.Draw(image)
    objects = []
    kinds = _sample_shapes(rng, background)
    outline = rng.choice((None, None, None, "white" if background in DARK_BACKGROUNDS else "black"))
    for (shape, colour), (x, y, size) in zip(kinds, _sample_positions(len(kinds), rng, width, height), strict=True):
        _draw_css_shape(canvas, shape, colour, outline, x, y, size)
        rgb = ImageColor.getrgb(colour)
        objects.append(SceneObject(shape, colour, Box(x, y, size), (rgb[0], rgb[1], rgb[2])))
    rgb = ImageColor.getrgb(background)
    background_rgb = (rgb[0], rgb[1], rgb[2])
    return image, Scene(width, height, (background_rgb,) * 2, sort_in_reading_order(objects, width, height))


def _sample_shapes(rng: random.Random, background: str) -> list[tuple[str, str]]:
    count = rng.choice((0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5))
    colours = [colour for colour in COLOURS if colour not in LOW_CONTRAST.get(background, ())]
    first = (rng.choice(SHAPES), rng.choice(colours))
    scheme = rng.choice(("alike", "two kinds", "any"))
    if scheme == "alike":
        return [first] * count
    if scheme == "two kinds":
        second = (rng.choice(SHAPES), rng.choice(colours))
        return [first if i < (count + 1) // 2 else second for i in range(count)]
    return [(rng.choice(SHAPES), rng.choice(colours)) for _ in range(count)]


def _sample_positions(count: int, rng: random.Random, width: int, height: int) -> list[tuple[float, float, float]]:
    """The centre and the size (x, y, size) of each object: in a row, in a column, or in cells of a grid."""
    if count == 1:
        size = min(width, height) * rng.uniform(0.2, 0.7)
        return [(width / 2, height / 2, size)]
    if rng.random() < 0.5:
        step = width / max(1, count)
        size = min(step, height) * rng.uniform(0.4, 0.8)
        return [(step * (i + 0.5), height / 2, size) for i in range(count)]
    if rng.random() < 0.3:
        step = height / max(1, count)
        size = min(step, width) * rng.uniform(0.4, 0.8)
        return [(width / 2, step * (i + 0.5), size) for i in range(count)]
    cells = rng.sample([(column, row) for column in range(3) for row in range(3)], count)
    size = min(width, height) / 3 * rng.uniform(0.4, 0.75)
    offset = min(width, height) / 3 * 0.1
    return [
        (
            width / 3 * (column + 0.5) + rng.uniform(-offset, offset),
            height / 3 * (row + 0.5) + rng.uniform(-offset, offset),
            size,
        )
        for column, row in cells
    ]


def _draw_css_shape(
    canvas: ImageDraw.ImageDraw, shape: str, colour: str, outline: str | None, x: float, y: float, size: float
) -> None:
    half = size / 2
    if shape == "circle":
        canvas.ellipse((x - half, y - half, x + half, y + half), fill=colour, outline=outline, width=2)
    elif shape == "square":
        canvas.rectangle((x - half, y - half, x + half, y + half), fill=colour, outline=outline, width=2)
    elif shape == "triangle":
        canvas.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=colour, outline=outline)
    elif shape == "star":
        tips = []
        for corner in range(10):
            radius = half if corner % 2 == 0 else half * 0.4
            angle = math.pi * corner / 5
            tips.append((x + radius * math.sin(angle), y - radius * math.cos(angle)))
        canvas.polygon(tips, fill=colour, outline=outline)
    elif shape == "heart":
        canvas.ellipse((x - half, y - half, x, y), fill=colour)
        canvas.ellipse((x, y - half, x + half, y), fill=colour)
        canvas.polygon(
            [(x - half * 0.93, y - half * 0.2), (x + half * 0.93, y - half * 0.2), (x, y + half)], fill=colour
        )
    else:
        arm = half * 0.33
        canvas.rectangle((x - half, y - arm, x + half, y + arm), fill=colour)
        canvas.rectangle((x - arm, y - half, x + arm, y + half), fill=colour)
