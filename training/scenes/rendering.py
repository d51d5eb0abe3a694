"""A scene becomes pixels: Pillow draws it at its own size, then it is squashed as the image processor squashes.

Knows polygons and pixels; knows no words. Distortions (blur, noise, JPEG) follow from a seed.
"""

from __future__ import annotations

import io
import math
import random
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training.scenes.colours import RGB
from training.scenes.scene import Scene, Thing

Points = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def render(scene: Scene) -> Image.Image:
    """The scene as drawn, without distortion."""
    image = paper(scene, (scene.width, scene.height))
    canvas = ImageDraw.Draw(image)
    for thing in scene.things:
        _draw(canvas, thing, beneath=scene.background[0])
    return image


def paper(scene: Scene, size: tuple[int, int]) -> Image.Image:
    """What lies behind the scene's things."""
    first, second = scene.background
    if first == second:
        return Image.new("RGB", size, first)
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, second), Image.new("RGB", size, first), ramp)


def silhouette(scene: Scene, side: int) -> Pixels:
    """How much of each of `side` x `side` cells is covered by things, 0 to 255."""
    mask = Image.new("L", (scene.width, scene.height))
    canvas = ImageDraw.Draw(mask)
    for thing in scene.things:
        canvas.polygon(_corners(thing), fill=255)
    return np.asarray(mask.resize((side, side), Image.Resampling.BOX))


def squashed(image: Image.Image, side: int) -> Image.Image:
    """The picture at the model's size: width and height each become `side`, bicubic, as the processor does."""
    return image.resize((side, side), Image.Resampling.BICUBIC)


def distorted(image: Image.Image, draw: random.Random) -> Image.Image:
    """The picture, sometimes after a blur, a grain or a JPEG's losses."""
    if draw.random() < 0.75:
        return image
    manner = draw.choice(("blur", "noise", "jpeg"))
    if manner == "blur":
        return image.filter(ImageFilter.GaussianBlur(draw.uniform(0.3, 0.008 * min(image.size))))
    if manner == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=draw.randint(40, 90))
        return Image.open(buffer).convert("RGB")
    grain = np.random.default_rng(draw.getrandbits(32)).normal(0, draw.uniform(3, 14), (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def tinted(image: Image.Image, draw: random.Random) -> Image.Image:
    """The picture, sometimes in other tones: channels mixed, paler, darker, or grey."""
    if draw.random() < 0.6:
        return image
    if draw.random() < 0.3:
        return image.convert("L").convert("RGB")
    mix = np.eye(3) + np.random.default_rng(draw.getrandbits(32)).normal(0, 0.14, (3, 3))
    tones = np.asarray(image, dtype=np.float32) @ (mix * draw.uniform(0.75, 1.15)).astype(np.float32)
    return Image.fromarray(np.clip(tones + draw.uniform(-15, 25), 0, 255).astype(np.uint8))


def pixels(scene: Scene, *, side: int, seed: str) -> Pixels:
    """What the model is shown of a scene: distorted at times, squashed to `side` x `side`, three bytes a pixel."""
    return np.asarray(squashed(distorted(render(scene), random.Random(seed)), side))


def outline(shape: str, *, proportion: float = 0.5) -> Points:
    """The shape's corners in a box from -0.5 to 0.5; `proportion` (0..1) makes it slimmer or fuller where it can be."""
    return _outline(shape, round(proportion, 1))


@cache
def _outline(shape: str, proportion: float) -> Points:
    if shape == "circle":
        turns = np.linspace(0, 2 * math.pi, 48, endpoint=False)
        return np.stack([np.cos(turns) / 2, np.sin(turns) / 2], axis=1)
    if shape == "square":
        return np.array([(-0.46, -0.46), (0.46, -0.46), (0.46, 0.46), (-0.46, 0.46)])
    if shape == "triangle":
        return np.array([(0, -0.5), (0.5, 0.42 - 0.1 * (proportion - 0.5)), (-0.5, 0.42 - 0.1 * (proportion - 0.5))])
    if shape == "star":
        inner = 0.19 + 0.07 * proportion
        turns = np.arange(10) * math.pi / 5 - math.pi / 2
        reach = np.where(np.arange(10) % 2 == 0, 0.5, inner)
        return np.stack([np.cos(turns) * reach, np.sin(turns) * reach], axis=1)
    if shape == "heart":
        return _heart()
    arm = 0.1 + 0.11 * proportion
    quarter = np.array([(-arm, -0.5), (arm, -0.5), (arm, -arm)])
    turn = np.array([(0.0, 1.0), (-1.0, 0.0)])
    corners: Points = np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])
    return corners


def _heart() -> Points:
    turns = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    x = 16 * np.sin(turns) ** 3
    y = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
    return np.stack([x / 34, -(y + 2.5) / 34], axis=1)


def _draw(canvas: ImageDraw.ImageDraw, thing: Thing, *, beneath: RGB) -> None:
    width = max(1, round(thing.outline_share * thing.box.size)) if thing.outline else 0
    canvas.polygon(_corners(thing), fill=beneath if thing.hollow else thing.fill, outline=thing.outline, width=width)


def _corners(thing: Thing) -> list[tuple[float, float]]:
    proportion = (thing.fill[0] + int(thing.box.size)) % 11 / 10  # any fixed function of the thing will do
    angle = math.radians(thing.angle)
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    points = outline(thing.kind, proportion=proportion) @ turn * thing.box.size + (thing.box.x, thing.box.y)
    return [(float(x), float(y)) for x, y in points]
