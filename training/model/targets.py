"""Targets of the auxiliary losses: what the query outputs and the patches have to predict about a scene.

Each of the twelve query tokens has a task: the first six predict one object each, in reading order; the seventh the
number of objects; the last five the objects at the four sides and in the middle. A query's target has several factors
(kind, colour, number of equal objects, ...), each with several options. Must not import torch or `lexicon`.
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
"""All kinds of objects: flat shapes, then everyday concepts."""

OUT_OF_DISTRIBUTION = MAX_OBJECTS + 1
"""The target "number of objects" of an out-of-distribution image, one above the real numbers."""

FACTORS = {
    "kind": len(KINDS) + 1,  # 0: there is no such object
    "colour": len(COLOURS) + 1,  # 0: the object is no flat shape
    "alike": MAX_OBJECTS + 1,  # the number of objects of the same kind and colour
    "of its kind": MAX_OBJECTS + 1,
    "of its colour": MAX_OBJECTS + 1,
    "new": 2,  # whether no earlier object has the same kind and colour
    "new kind": 2,
    "new colour": 2,
    "number": MAX_OBJECTS + 2,  # the last: the image is out of distribution
}
"""The factors of a query's target, each with its number of options."""

QUERIES = MAX_OBJECTS + 1 + len(SIDES)
COUNT_QUERY = MAX_OBJECTS
"""The index of the query for the number of objects; queries for single objects precede it, those for sides follow."""

CELLS = 4
"""A patch is divided into this many cells per side. Its coverage is the share of each cell that objects cover."""

PATCH_TARGETS = (len(KINDS) + 1, len(COLOURS) + 1, 3, MAX_OBJECTS + 1)
"""The number of options of each target of a patch: the kind and the colour of its object (0: none); the number of
objects whose centre is in the patch, at most 2; the position of its object in reading order, from 1 (0: none)."""

IGNORE_INDEX = -100
"""The value of a target that does not exist; torch's cross entropy ignores it."""


@dataclass(frozen=True)
class Targets:
    """All targets of one scene."""

    queries: Array  # (queries, factors)
    patches: Array  # (patches, targets)


def scene_targets(scene: Scene, *, grid: int) -> Targets:
    """The targets of a scene whose image has `grid` x `grid` patches."""
    return Targets(query_targets(scene), _patches(scene, grid))


def query_targets(scene: Scene) -> Array:
    """The targets (queries, factors); those of a crowded scene, or of a side without a clear object, are ignored."""
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
    """The targets (patches, targets). A patch's object is the one that covers its centre or is centred in the patch."""
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
