"""Targets of the auxiliary losses: what the query outputs and the patches are to predict of a scene.

Each of the twelve query tokens has a task. The first six predict one object each, in reading order; the seventh the
number of objects; the other five the object at each side and in the middle. A query target is several *factors* (kind,
colour, number of equal objects, ...), each one of several options. Must not import torch or `lexicon`.
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
"""All kinds of objects."""

OUT_OF_DISTRIBUTION = MAX_OBJECTS + 1
"""The "number of objects" of an out-of-distribution image."""

FACTORS = {
    "kind": len(KINDS) + 1,  # 0: there is no such object
    "colour": len(COLOURS) + 1,  # 0: it is no flat shape
    "alike": MAX_OBJECTS + 1,  # the number of objects of its kind and colour
    "of its kind": MAX_OBJECTS + 1,
    "of its colour": MAX_OBJECTS + 1,
    "new": 2,  # whether no earlier object has its kind and colour
    "new kind": 2,
    "new colour": 2,
    "number": MAX_OBJECTS + 2,  # the last: the image is out of distribution
}
"""The factors of a query target, with the number of options of each."""

QUERIES = MAX_OBJECTS + 1 + len(SIDES)
COUNT_QUERY = MAX_OBJECTS
"""The query of the number of objects; those before it have the objects, those after it the sides."""

CELLS = 4
"""The cells of a patch's coverage along each side."""

PATCH_TARGETS = (len(KINDS) + 1, len(COLOURS) + 1, 3, MAX_OBJECTS + 1)
"""The number of options of a patch's targets: kind and colour of its object, or 0 and 0; the number of objects with
their centre in it, at most 2; the position of its object in reading order, from 1, or 0."""

IGNORE_INDEX = -100
"""Marks a target that does not exist; torch's cross entropy ignores it."""


@dataclass(frozen=True)
class Targets:
    """All targets of one scene."""

    queries: Array  # (queries, factors)
    patches: Array  # (patches, targets)


def scene_targets(scene: Scene, *, grid: int) -> Targets:
    """The targets of a scene whose image has `grid` x `grid` patches."""
    return Targets(query_targets(scene), _patches(scene, grid))


def query_targets(scene: Scene) -> Array:
    """The targets of the queries, (queries, factors); none for crowded scenes or a side without a clear object."""
    targets = np.full((QUERIES, len(FACTORS)), IGNORE_INDEX, dtype=np.int64)
    if len(scene.objects) > MAX_OBJECTS:
        return targets
    targets[:COUNT_QUERY, 0] = 0
    for index, obj in enumerate(scene.objects):
        targets[index, :-1] = _object_targets(scene, index, obj)
    targets[:, -1] = OUT_OF_DISTRIBUTION if scene.ood_kind else len(scene.objects)
    for index, side in enumerate(SIDES, start=COUNT_QUERY + 1):
        side_object = scene.at(side)
        if side_object is not None:
            targets[index, :2] = _kind_and_colour(side_object)
        elif not scene.objects:
            targets[index, 0] = 0
    return targets


_KIND_OPTIONS = {kind: number for number, kind in enumerate(KINDS, start=1)}


def _kind_and_colour(obj: SceneObject) -> tuple[int, int]:
    return _KIND_OPTIONS[obj.kind], COLOURS.index(obj.colour) + 1 if obj.colour else 0


def _object_targets(scene: Scene, index: int, obj: SceneObject) -> tuple[int, ...]:
    earlier = scene.objects[:index]
    return (
        *_kind_and_colour(obj),
        scene.count(obj.kind, obj.colour),
        scene.count(obj.kind),
        scene.count(None, obj.colour) if obj.colour else IGNORE_INDEX,
        not any((one.kind, one.colour) == (obj.kind, obj.colour) for one in earlier),
        not any(one.kind == obj.kind for one in earlier),
        not any(one.colour == obj.colour for one in earlier) if obj.colour else IGNORE_INDEX,
    )


def _patches(scene: Scene, grid: int) -> Array:
    """The targets of every patch: the object that covers its centre, and the number of objects centred in it."""
    targets = np.zeros((grid, grid, len(PATCH_TARGETS)), dtype=np.int64)
    steps = (np.arange(grid) + 0.5) / grid
    for index, obj in enumerate(scene.objects):
        half = obj.box.size * 0.45
        in_columns = np.abs(steps * scene.width - obj.box.x) < half
        in_rows = np.abs(steps * scene.height - obj.box.y) < half
        column = min(grid - 1, int(obj.box.x / scene.width * grid))
        row = min(grid - 1, int(obj.box.y / scene.height * grid))
        in_columns[column] = in_rows[row] = True
        covered = np.outer(in_rows, in_columns)
        targets[covered, :2] = _kind_and_colour(obj)
        targets[covered, 3] = index + 1
        targets[row, column, 2] = min(targets[row, column, 2] + 1, 2)
    if len(scene.objects) > MAX_OBJECTS:
        targets[..., 3] = IGNORE_INDEX
    return targets.reshape(grid * grid, -1)
