"""What the vision stage asks the pupil to see in a scene, as arrays: a lesson thrown away once it is learned.

Twelve query tokens have twelve duties. The first seven report how many things there are of every colour: one query a
shape, then one for all shapes. The other five name the thing at each side and in the middle. Each patch also says what
has its centre there. Knows scenes and arrays; knows no network and no words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.colours import COLOURS
from training.scenes import MOST, SHAPES, SIDES, Scene

Array = NDArray[np.int64]

GROUPS = (*SHAPES, None)
"""What the counting queries count: each shape, then any shape."""

QUERIES = len(GROUPS) + len(SIDES)
TALLIES = len(COLOURS) + 1
"""Numbers that one counting query reports: one a colour, then their sum."""

ANSWERS = MOST + 1
MOST_CENTRES = 2
CELLS = 4
"""A patch's silhouette has so many cells along each side."""

UNASKED = -100
"""The mark of a question without an answer; torch's cross entropy skips it."""


@dataclass(frozen=True)
class Targets:
    """The right answers for one scene."""

    counts: Array  # (groups, tallies): how many
    sides: Array  # (sides, 2): shape and colour, or UNASKED
    patches: (
        Array  # (patches, 3): 1 + shape and 1 + colour of what lies there, or 0 and 0; how many have their centre there
    )


def of(scene: Scene, *, grid: int) -> Targets:
    """The right answers for a scene whose picture is cut into `grid` x `grid` patches."""
    counts = np.zeros((len(GROUPS), TALLIES), dtype=np.int64)
    for thing in scene.things:
        shape, colour = SHAPES.index(thing.shape), COLOURS.index(thing.colour)
        for group in (shape, len(SHAPES)):
            counts[group, [colour, -1]] += 1
    if len(scene.things) > MOST:
        counts[:] = UNASKED
    sides = np.full((len(SIDES), 2), UNASKED, dtype=np.int64)
    for index, side in enumerate(SIDES):
        there = scene.at(side)
        if there is not None and len(scene.things) <= MOST:
            sides[index] = (SHAPES.index(there.shape), COLOURS.index(there.colour))
    return Targets(counts, sides, _patches(scene, grid))


def _patches(scene: Scene, grid: int) -> Array:
    """For every patch: which thing lies over its middle, and how many things have their own middle in it."""
    marks = np.zeros((grid, grid, 3), dtype=np.int64)
    steps = (np.arange(grid) + 0.5) / grid
    for thing in scene.things:
        half = thing.box.size * 0.45
        across = np.abs(steps * scene.width - thing.box.x) < half
        down = np.abs(steps * scene.height - thing.box.y) < half
        column = min(grid - 1, int(thing.box.x / scene.width * grid))
        row = min(grid - 1, int(thing.box.y / scene.height * grid))
        across[column] = down[row] = True
        marks[np.outer(down, across), :2] = (SHAPES.index(thing.shape) + 1, COLOURS.index(thing.colour) + 1)
        marks[row, column, 2] = min(marks[row, column, 2] + 1, MOST_CENTRES)
    return marks.reshape(grid * grid, 3)
