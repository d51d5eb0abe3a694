"""Scenes of everyday things: one to six of them (or a crowd), each a concept with a place and a way to lie there.

Knows concepts by name and places; knows no drawing of them (that is `sprites`) and no pixels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from training.scenes.concepts import concepts
from training.scenes.layouts import Box, arrange
from training.scenes.scene import Scene, Thing, canvas, in_reading_order, paper

NAMES = tuple(concept.name for concept in concepts())

NUMBER_WEIGHTS = (34, 26, 18, 14, 4, 4)
"""How often a scene holds 1, 2, ... 6 things."""

SAME, FEW, ANY = 28, 24, 48
"""How often all things are of one kind, of two or three, or each of its own."""

SMALLEST = 0.24
"""Smaller things, as a share of the picture's shorter side, cannot be told apart; they grow where they can."""


def make(draw: random.Random, *, numbers: Sequence[int] = ()) -> Scene:
    """A scene; `numbers`, where given, are the numbers of things to choose from in place of the usual ones."""
    width, height = canvas(draw)
    number = draw.choice(numbers or draw.choices(range(1, 7), NUMBER_WEIGHTS))
    boxes = _grown(arrange(number, draw, width=width, height=height), width, height)
    upright = draw.random() < 0.5
    hands: dict[str, float] = {}
    things = []
    for box, kind in zip(boxes, _kinds(number, draw), strict=True):
        thing = Thing(kind, None, box, (0, 0, 0), hand=hands.setdefault(kind, draw.random()))
        things.append(thing if upright else _turned(thing, draw))
    return Scene(width, height, paper(draw), in_reading_order(things, width, height))


def awkward(scene: Scene, draw: random.Random) -> Scene:
    """The scene as nobody would have it: all its things lying aslant or, at times, a single one cut by the edges."""
    if len(scene.things) == 1 and draw.random() < 0.6:
        side = min(scene.width, scene.height)
        x, y = (length * draw.gauss(0.5, 0.06) for length in (scene.width, scene.height))
        huge = replace(scene.things[0], box=Box(x, y, side * draw.uniform(0.85, 1.35)))
        return replace(scene, things=(huge,))
    return replace(scene, things=tuple(replace(thing, angle=draw.uniform(-50, 50)) for thing in scene.things))


def _grown(boxes: Sequence[Box], width: int, height: int) -> list[Box]:
    """The boxes, all larger by one factor where the smallest is too small and there is room."""
    smallest = min(box.size for box in boxes)
    factor = max(1.0, SMALLEST * min(width, height) / smallest)
    for place, one in enumerate(boxes):
        for other in boxes[:place]:
            gap = max(abs(one.x - other.x), abs(one.y - other.y))
            factor = min(factor, max(1.0, 2 * gap / (one.size + other.size)))
        edge = min(one.x, width - one.x, one.y, height - one.y)
        factor = min(factor, max(1.0, 2.2 * edge / one.size))
    return [replace(box, size=box.size * factor) for box in boxes]


def _turned(thing: Thing, draw: random.Random) -> Thing:
    """The thing leaning a little, mirrored at times, slimmer or fuller, sometimes drawn by another hand."""
    return replace(
        thing,
        angle=draw.gauss(0, 10) if draw.random() < 0.85 else draw.uniform(-40, 40),
        mirrored=draw.random() < 0.5,
        stretch=1.25 ** draw.uniform(-1, 1),
        hand=thing.hand if draw.random() < 0.7 else draw.random(),
    )


def _kinds(count: int, draw: random.Random) -> list[str]:
    pick = draw.choices((1, draw.choice((2, 2, 3)), count), (SAME, FEW, ANY if count <= 6 else 8 * ANY))[0]
    pool = [draw.choice(NAMES) for _ in range(pick)]
    chosen = pool[:count] + [draw.choice(pool) for _ in range(count - len(pool))]
    draw.shuffle(chosen)
    return chosen
