"""Pictures in another hand than training's, for the exam alone: what a stranger would draw with Pillow in a minute.

Plain CSS colours, no smoothing, usual picture sizes, mostly white paper; ellipses, rectangles and polygons by their
simplest formulas. Shares only `Scene` and `Thing` with the training world, so that the same questions can be asked.
"""

from __future__ import annotations

import math
import random

from PIL import Image, ImageColor, ImageDraw

from training.scenes.layouts import Box
from training.scenes.scene import SHAPES, Scene, Thing, in_reading_order

SIZES = ((224, 224), (224, 224), (300, 300), (400, 200), (640, 480), (320, 240), (512, 512), (200, 400))
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "pink", "brown")
PAPERS = ("white", "white", "white", "white", "lightgrey", "lightyellow", "black", "navy")
DARK = ("black", "navy")
HARD_TO_SEE = {
    "black": ("black", "brown", "purple", "blue"),
    "navy": ("black", "brown", "purple", "blue"),
    "lightgrey": ("pink",),
    "lightyellow": ("yellow", "pink"),
}


def draw(seed: int, index: int) -> tuple[Image.Image, Scene]:
    """A picture and what is in it: zero to five things, in a row, in a column or anywhere."""
    dice = random.Random(f"plain/{seed}/{index}")
    width, height = dice.choice(SIZES)
    paper = dice.choice(PAPERS)
    image = Image.new("RGB", (width, height), paper)
    canvas = ImageDraw.Draw(image)
    things = []
    kinds = _kinds(dice, paper)
    edge = dice.choice((None, None, None, "white" if paper in DARK else "black"))
    for (shape, colour), (x, y, size) in zip(kinds, _places(len(kinds), dice, width, height), strict=True):
        _shape(canvas, shape, colour, edge, x, y, size)
        rgb = ImageColor.getrgb(colour)
        things.append(Thing(shape, colour, Box(x, y, size), (rgb[0], rgb[1], rgb[2])))
    rgb = ImageColor.getrgb(paper)
    background = (rgb[0], rgb[1], rgb[2])
    return image, Scene(width, height, (background, background), in_reading_order(things, width, height))


def _kinds(dice: random.Random, paper: str) -> list[tuple[str, str]]:
    count = dice.choice((0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5))
    colours = [colour for colour in COLOURS if colour not in HARD_TO_SEE.get(paper, ())]
    one = (dice.choice(SHAPES), dice.choice(colours))
    manner = dice.choice(("alike", "two kinds", "any"))
    if manner == "alike":
        return [one] * count
    if manner == "two kinds":
        other = (dice.choice(SHAPES), dice.choice(colours))
        return [one if i < (count + 1) // 2 else other for i in range(count)]
    return [(dice.choice(SHAPES), dice.choice(colours)) for _ in range(count)]


def _places(count: int, dice: random.Random, width: int, height: int) -> list[tuple[float, float, float]]:
    """Centres and sizes: a line along the longer side, a line across, or spots of a loose grid."""
    if count == 1:
        size = min(width, height) * dice.uniform(0.2, 0.7)
        return [(width / 2, height / 2, size)]
    if dice.random() < 0.5:
        step = width / max(1, count)
        size = min(step, height) * dice.uniform(0.4, 0.8)
        return [(step * (i + 0.5), height / 2, size) for i in range(count)]
    if dice.random() < 0.3:
        step = height / max(1, count)
        size = min(step, width) * dice.uniform(0.4, 0.8)
        return [(width / 2, step * (i + 0.5), size) for i in range(count)]
    cells = dice.sample([(column, row) for column in range(3) for row in range(3)], count)
    size = min(width, height) / 3 * dice.uniform(0.4, 0.75)
    wobble = min(width, height) / 3 * 0.1
    return [
        (
            width / 3 * (column + 0.5) + dice.uniform(-wobble, wobble),
            height / 3 * (row + 0.5) + dice.uniform(-wobble, wobble),
            size,
        )
        for column, row in cells
    ]


def _shape(
    canvas: ImageDraw.ImageDraw, shape: str, colour: str, edge: str | None, x: float, y: float, size: float
) -> None:
    half = size / 2
    if shape == "circle":
        canvas.ellipse((x - half, y - half, x + half, y + half), fill=colour, outline=edge, width=2)
    elif shape == "square":
        canvas.rectangle((x - half, y - half, x + half, y + half), fill=colour, outline=edge, width=2)
    elif shape == "triangle":
        canvas.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=colour, outline=edge)
    elif shape == "star":
        tips = []
        for corner in range(10):
            reach = half if corner % 2 == 0 else half * 0.4
            turn = math.pi * corner / 5
            tips.append((x + reach * math.sin(turn), y - reach * math.cos(turn)))
        canvas.polygon(tips, fill=colour, outline=edge)
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
