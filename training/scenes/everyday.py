"""Samples scenes of everyday objects: one to six objects (more if crowded), each a concept with a box and a pose.

Scenes refer to concepts by name. Must not import `sprites` or anything that renders.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from training.scenes.concepts import concepts
from training.scenes.layouts import Box, arrange
from training.scenes.scene import Scene, SceneObject, sample_background, sample_canvas_size, sort_in_reading_order

NAMES = tuple(concept.name for concept in concepts())

NUMBER_WEIGHTS = (34, 26, 18, 14, 4, 4)
"""The weights of 1, 2, ... 6 objects in a scene."""

ONE_KIND, FEW_KINDS, ANY_KIND = 28, 24, 48
"""The weights of scenes with one kind of object, with two or three kinds, and with a random kind for each object."""

MIN_SIZE = 0.24
"""Objects below this share of the image's shorter side are indistinguishable, so they are enlarged if possible."""


def sample_everyday_scene(rng: random.Random, *, numbers: Sequence[int] = ()) -> Scene:
    """A random scene; the number of its objects is drawn from `numbers` if given, else by `NUMBER_WEIGHTS`."""
    width, height = sample_canvas_size(rng)
    number = rng.choice(numbers or rng.choices(range(1, 7), NUMBER_WEIGHTS))
    boxes = _enlarged(arrange(number, rng, width=width, height=height), width, height)
    upright = rng.random() < 0.5
    variants: dict[str, float] = {}
    objects = []
    for box, kind in zip(boxes, _sample_kinds(number, rng), strict=True):
        obj = SceneObject(kind, None, box, (0, 0, 0), variant=variants.setdefault(kind, rng.random()))
        objects.append(obj if upright else _varied(obj, rng))
    return Scene(width, height, sample_background(rng), sort_in_reading_order(objects, width, height))


def harden(scene: Scene, rng: random.Random) -> Scene:
    """A harder version of the scene, with all objects rotated; a single object may be cropped by the edges instead."""
    if len(scene.objects) == 1 and rng.random() < 0.6:
        side = min(scene.width, scene.height)
        x, y = (length * rng.gauss(0.5, 0.06) for length in (scene.width, scene.height))
        cropped = replace(scene.objects[0], box=Box(x, y, side * rng.uniform(0.85, 1.35)))
        return replace(scene, objects=(cropped,))
    return replace(scene, objects=tuple(replace(obj, angle=rng.uniform(-50, 50)) for obj in scene.objects))


def _enlarged(boxes: Sequence[Box], width: int, height: int) -> list[Box]:
    """The boxes, all scaled by one factor if the smallest is too small and there is space."""
    smallest = min(box.size for box in boxes)
    factor = max(1.0, MIN_SIZE * min(width, height) / smallest)
    for index, box in enumerate(boxes):
        for other in boxes[:index]:
            gap = max(abs(box.x - other.x), abs(box.y - other.y))
            factor = min(factor, max(1.0, 2 * gap / (box.size + other.size)))
        edge = min(box.x, width - box.x, box.y, height - box.y)
        factor = min(factor, max(1.0, 2.2 * edge / box.size))
    return [replace(box, size=box.size * factor) for box in boxes]


def _varied(obj: SceneObject, rng: random.Random) -> SceneObject:
    """The object slightly rotated and stretched, sometimes mirrored, sometimes in another drawing style."""
    return replace(
        obj,
        angle=rng.gauss(0, 10) if rng.random() < 0.85 else rng.uniform(-40, 40),
        mirrored=rng.random() < 0.5,
        stretch=1.25 ** rng.uniform(-1, 1),
        variant=obj.variant if rng.random() < 0.7 else rng.random(),
    )


def _sample_kinds(count: int, rng: random.Random) -> list[str]:
    pool_size = rng.choices(
        (1, rng.choice((2, 2, 3)), count), (ONE_KIND, FEW_KINDS, ANY_KIND if count <= 6 else 8 * ANY_KIND)
    )[0]
    pool = [rng.choice(NAMES) for _ in range(pool_size)]
    kinds = pool[:count] + [rng.choice(pool) for _ in range(count - len(pool))]
    rng.shuffle(kinds)
    return kinds
