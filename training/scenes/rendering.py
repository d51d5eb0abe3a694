"""Renders flat shapes with Pillow at the scene's size, then resizes the image as the model's image processor does.

Distortions (blur, noise, JPEG) follow from a seed. Must not import `lexicon`.
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
from training.scenes.scene import Scene, SceneObject

Points = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def render_flat(scene: Scene) -> Image.Image:
    """The image of a scene of flat shapes, at the scene's size and without distortion."""
    image = render_background(scene, (scene.width, scene.height))
    canvas = ImageDraw.Draw(image)
    for obj in scene.objects:
        _draw_shape(canvas, obj, background=scene.background[0])
    return image


def render_background(scene: Scene, size: tuple[int, int]) -> Image.Image:
    """An image of `size` that shows only the scene's background."""
    top, bottom = scene.background
    if top == bottom:
        return Image.new("RGB", size, top)
    ramp = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), ramp)


def coverage_mask(scene: Scene, side: int) -> Pixels:
    """How much of each pixel objects cover, 0 to 255, if the image has the model's size (side, side)."""
    mask = Image.new("L", (scene.width, scene.height))
    canvas = ImageDraw.Draw(mask)
    for obj in scene.objects:
        canvas.polygon(_corners(obj), fill=255)
    return np.asarray(mask.resize((side, side), Image.Resampling.BOX))


def resize(image: Image.Image, side: int) -> Image.Image:
    """Resize the image to `side` x `side`, the model's size, by bicubic interpolation as in its image processor."""
    return image.resize((side, side), Image.Resampling.BICUBIC)


def distort(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return the image, which with probability 0.25 is blurred, gets noise or is compressed as JPEG."""
    if rng.random() < 0.75:
        return image
    distortion = rng.choice(("blur", "noise", "jpeg"))
    if distortion == "blur":
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.008 * min(image.size))))
    if distortion == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(40, 90))
        return Image.open(buffer).convert("RGB")
    grain = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(3, 14), (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def shift_tones(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return the image, with probability 0.4 in other tones: grey, or with mixed channels and another brightness."""
    if rng.random() < 0.6:
        return image
    if rng.random() < 0.3:
        return image.convert("L").convert("RGB")
    mixing = np.eye(3) + np.random.default_rng(rng.getrandbits(32)).normal(0, 0.14, (3, 3))
    mixed = np.asarray(image, dtype=np.float32) @ (mixing * rng.uniform(0.75, 1.15)).astype(np.float32)
    return Image.fromarray(np.clip(mixed + rng.uniform(-15, 25), 0, 255).astype(np.uint8))


def render_pixels(scene: Scene, *, side: int, seed: str) -> Pixels:
    """The image of a scene at the model's size, bytes (side, side, 3); with probability 0.25 it is distorted."""
    return np.asarray(resize(distort(render_flat(scene), random.Random(seed)), side))


def outline(shape: str, *, proportion: float = 0.5) -> Points:
    """The shape's corners in a box from -0.5 to 0.5; `proportion` (0..1) makes some shapes thinner or thicker."""
    return _outline(shape, round(proportion, 1))


@cache
def _outline(shape: str, proportion: float) -> Points:
    if shape == "circle":
        angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
        return np.stack([np.cos(angles) / 2, np.sin(angles) / 2], axis=1)
    if shape == "square":
        return np.array([(-0.46, -0.46), (0.46, -0.46), (0.46, 0.46), (-0.46, 0.46)])
    if shape == "triangle":
        return np.array([(0, -0.5), (0.5, 0.42 - 0.1 * (proportion - 0.5)), (-0.5, 0.42 - 0.1 * (proportion - 0.5))])
    if shape == "star":
        inner = 0.19 + 0.07 * proportion
        angles = np.arange(10) * math.pi / 5 - math.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 0.5, inner)
        return np.stack([np.cos(angles) * radius, np.sin(angles) * radius], axis=1)
    if shape == "heart":
        return _heart_outline()
    arm = 0.1 + 0.11 * proportion
    quarter = np.array([(-arm, -0.5), (arm, -0.5), (arm, -arm)])
    rotation = np.array([(0.0, 1.0), (-1.0, 0.0)])
    corners: Points = np.concatenate([quarter @ np.linalg.matrix_power(rotation, k) for k in range(4)])
    return corners


def _heart_outline() -> Points:
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    x = 16 * np.sin(angles) ** 3
    y = 13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)
    return np.stack([x / 34, -(y + 2.5) / 34], axis=1)


def _draw_shape(canvas: ImageDraw.ImageDraw, obj: SceneObject, *, background: RGB) -> None:
    width = max(1, round(obj.outline_share * obj.box.size)) if obj.outline else 0
    canvas.polygon(_corners(obj), fill=background if obj.hollow else obj.fill, outline=obj.outline, width=width)


def _corners(obj: SceneObject) -> list[tuple[float, float]]:
    proportion = (obj.fill[0] + int(obj.box.size)) % 11 / 10  # any fixed function of the object will do
    angle = math.radians(obj.angle)
    rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    points = outline(obj.kind, proportion=proportion) @ rotation * obj.box.size + (obj.box.x, obj.box.y)
    return [(float(x), float(y)) for x, y in points]
