"""Arranges the boxes of an image's objects in rows, columns, grids or at random positions that do not overlap.

All boxes are inside the canvas, in pixels. Depends on nothing else in training.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

MIN_SIZE, MAX_SIZE = 0.11, 0.85
"""The smallest and the largest size of an object, as a share of the image's shorter side."""

CROWDED = 6
"""If there are more objects than this, they are always in a grid, since random positions would overlap."""


@dataclass(frozen=True)
class Box:
    """The square around one object, in pixels: its centre, and the length of its side (`size`)."""

    x: float
    y: float
    size: float


def arrange(count: int, rng: random.Random, *, width: int, height: int) -> tuple[Box, ...]:
    """Boxes for `count` objects in a random layout."""
    if count == 0:
        return ()
    if count == 1:
        return (_single(rng, width, height),)
    kind = rng.choices(("row", "column", "grid", "scatter"), (30, 12, 16, 42))[0]
    if kind == "scatter" and count <= CROWDED:
        return _scattered(count, rng, width, height)
    if kind == "row" and width < height * 0.6:
        kind = "column"
    if kind == "column" and height < width * 0.6:
        kind = "row"
    if count > CROWDED:
        kind = "grid"
    columns = {"row": count, "column": 1}.get(kind) or _columns(count, rng)
    return _grid(count, rng, width, height, columns=columns)


def _columns(count: int, rng: random.Random) -> int:
    return math.ceil(count**0.5) if count > CROWDED else rng.randint(2, max(2, (count + 1) // 2))


def _single(rng: random.Random, width: int, height: int) -> Box:
    side = min(width, height)
    size = side * rng.uniform(MIN_SIZE + 0.03, MAX_SIZE)
    if rng.random() < 0.5:
        offset = (side - size) * 0.05
        return Box(width / 2 + rng.uniform(-offset, offset), height / 2 + rng.uniform(-offset, offset), size)
    half = size / 2
    return Box(rng.uniform(half, width - half), rng.uniform(half, height - half), size)


def _grid(count: int, rng: random.Random, width: int, height: int, *, columns: int) -> tuple[Box, ...]:
    """Boxes in a grid that is filled row by row (it may be one row or column) and spans all or part of the canvas."""
    rows = -(-count // columns)
    share_x, share_y = (1.0, 1.0) if rng.random() < 0.6 else (rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.0))
    step_x, step_y = width * share_x / columns, height * share_y / rows
    left, top = rng.uniform(0, width * (1 - share_x)), rng.uniform(0, height * (1 - share_y))
    side = min(width, height)
    # Objects often fill their cells; tiny ones in large cells are common too.
    largest = min(min(step_x, step_y) * 0.95, side * MAX_SIZE)
    size = max(min(largest, side * rng.uniform(MIN_SIZE, 0.6)), min(largest, side * MIN_SIZE))
    if count > CROWDED:
        size = largest * rng.uniform(0.6, 1.0)
    slack = max(0.0, min(step_x, step_y) - size) * rng.choice((0.0, 0.05, 0.25))
    boxes = []
    for index in range(count):
        row, column = divmod(index, columns)
        box_size = size * rng.uniform(0.8, 1.0) if slack else size
        x = left + (column + 0.5) * step_x + rng.uniform(-slack, slack)
        y = top + (row + 0.5) * step_y + rng.uniform(-slack, slack)
        boxes.append(_clamped(Box(x, y, box_size), width, height))
    return tuple(boxes)


def _scattered(count: int, rng: random.Random, width: int, height: int) -> tuple[Box, ...]:
    """Random boxes that do not overlap; they shrink until all fit."""
    side = min(width, height)
    size = side * rng.uniform(MIN_SIZE, 0.5)
    gap = rng.uniform(1.02, 1.4)
    spread = rng.choice((1.0, 1.0, 1.5, 2.0))
    boxes: list[Box] = []
    rejected = 0
    while len(boxes) < count:
        box_size = max(side * MIN_SIZE, size * rng.uniform(1 / spread, 1.0))
        half = box_size / 2
        box = Box(rng.uniform(half, width - half), rng.uniform(half, height - half), box_size)
        if all(_are_apart(box, other, gap) for other in boxes):
            boxes.append(box)
            continue
        rejected += 1
        if rejected % 15 == 0:
            size = max(size * 0.8, side * MIN_SIZE)
            boxes = boxes[: len(boxes) // 2]
    return tuple(boxes)


def _are_apart(first: Box, other: Box, gap: float) -> bool:
    min_distance = (first.size + other.size) / 2 * gap
    return abs(first.x - other.x) > min_distance or abs(first.y - other.y) > min_distance


def _clamped(box: Box, width: int, height: int) -> Box:
    half = box.size / 2
    return Box(min(max(box.x, half), width - half), min(max(box.y, half), height - half), box.size)
