"""What the eyes are to report of a scene, as arrays of numbers: the lesson that teaches them, thrown away once learned.

Twelve query tokens have twelve duties. The first six report one thing each, in reading order; the seventh how many
things there are; the other five the thing at each side and in the middle. A report is a few *factors* (a shape, a
colour, how many are like it, ...), each one of several options. Besides, each patch says what lies there. Knows scenes
and arrays; knows no network and no words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scenes.colours import COLOURS
from training.scenes.everyday import NAMES
from training.scenes.scene import MAX_OBJECTS, SHAPES, SIDES, Scene, SceneObject

Array = NDArray[np.int64]

KINDS = (*SHAPES, *NAMES)
"""Everything that a thing can be."""

STRANGE = MAX_OBJECTS + 1
"""The number of things in a picture that is none of the world's."""

FACTORS = {
    "kind": len(KINDS) + 1,  # 0: there is no such thing
    "colour": len(COLOURS) + 1,  # 0: it is no flat shape
    "alike": MAX_OBJECTS + 1,  # how many things have its kind and its colour
    "of its kind": MAX_OBJECTS + 1,
    "of its colour": MAX_OBJECTS + 1,
    "new": 2,  # whether no thing before it has its kind and its colour
    "new kind": 2,
    "new colour": 2,
    "number": MAX_OBJECTS + 2,  # the last: the picture is none that the world knows
}
"""What a report is made of, and how many options each part has."""

QUERIES = MAX_OBJECTS + 1 + len(SIDES)
ALL = MAX_OBJECTS
"""The query that reports how many things there are; those before it report things, those after it sides."""

CELLS = 4
"""A patch's silhouette has so many cells along each side."""

PATCH_ANSWERS = (len(KINDS) + 1, len(COLOURS) + 1, 3, MAX_OBJECTS + 1)
"""Options of what a patch says: the kind and the colour that lie there, or 0 and 0; how many things have their centre
in it, 2 at most; which thing in reading order lies there, from 1, or 0."""

UNASKED = -100
"""The mark of a question without an answer; torch's cross entropy skips it."""


@dataclass(frozen=True)
class Targets:
    """The right answers for one scene."""

    report: Array  # (queries, factors)
    patches: Array  # (patches, answers)


def of(scene: Scene, *, grid: int) -> Targets:
    """The right answers for a scene whose picture is cut into `grid` x `grid` patches."""
    return Targets(report(scene), _patches(scene, grid))


def report(scene: Scene) -> Array:
    """What the queries are to say of the scene; nothing is asked of a crowd, nor of a side where nothing clearly is."""
    said = np.full((QUERIES, len(FACTORS)), UNASKED, dtype=np.int64)
    if len(scene.objects) > MAX_OBJECTS:
        return said
    said[:ALL, 0] = 0
    for place, obj in enumerate(scene.objects):
        said[place, :-1] = _told(scene, place, obj)
    said[:, -1] = STRANGE if scene.ood_kind else len(scene.objects)
    for place, side in enumerate(SIDES, start=ALL + 1):
        there = scene.at(side)
        if there is not None:
            said[place, :2] = _named(there)
        elif not scene.objects:
            said[place, 0] = 0
    return said


_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS, start=1)}


def _named(obj: SceneObject) -> tuple[int, int]:
    return _KIND_NUMBERS[obj.kind], COLOURS.index(obj.colour) + 1 if obj.colour else 0


def _told(scene: Scene, place: int, obj: SceneObject) -> tuple[int, ...]:
    before = scene.objects[:place]
    return (
        *_named(obj),
        scene.count(obj.kind, obj.colour),
        scene.count(obj.kind),
        scene.count(None, obj.colour) if obj.colour else UNASKED,
        not any((one.kind, one.colour) == (obj.kind, obj.colour) for one in before),
        not any(one.kind == obj.kind for one in before),
        not any(one.colour == obj.colour for one in before) if obj.colour else UNASKED,
    )


def _patches(scene: Scene, grid: int) -> Array:
    """For every patch: which thing lies over its middle, and how many things have their own middle in it."""
    marks = np.zeros((grid, grid, len(PATCH_ANSWERS)), dtype=np.int64)
    steps = (np.arange(grid) + 0.5) / grid
    for place, obj in enumerate(scene.objects):
        half = obj.box.size * 0.45
        across = np.abs(steps * scene.width - obj.box.x) < half
        down = np.abs(steps * scene.height - obj.box.y) < half
        column = min(grid - 1, int(obj.box.x / scene.width * grid))
        row = min(grid - 1, int(obj.box.y / scene.height * grid))
        across[column] = down[row] = True
        spot = np.outer(down, across)
        marks[spot, :2] = _named(obj)
        marks[spot, 3] = place + 1
        marks[row, column, 2] = min(marks[row, column, 2] + 1, 2)
    if len(scene.objects) > MAX_OBJECTS:
        marks[..., 3] = UNASKED
    return marks.reshape(grid * grid, -1)
