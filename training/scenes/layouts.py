"""Where things lie in a picture: rows, columns, grids and scatterings that do not overlap.

Knows boxes and pixels only; knows no shape, no colour and no drawing. Every layout returns `Box`es inside the canvas.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

SMALLEST, LARGEST = 0.11, 0.85
"""The extent of a thing, as a share of the picture's shorter side."""

CROWD = 6
"""More things than this always stand in a grid, since no scattering would fit them."""


@dataclass(frozen=True)
class Box:
    """A place for one thing: its centre and its extent, in pixels."""

    x: float
    y: float
    size: float


def arrange(count: int, draw: random.Random, *, width: int, height: int) -> tuple[Box, ...]:
    """Places for `count` things in a layout drawn at random."""
    if count == 0:
        return ()
    if count == 1:
        return (_alone(draw, width, height),)
    kind = draw.choices(("row", "column", "grid", "scatter"), (30, 12, 16, 42))[0]
    if kind == "scatter" and count <= CROWD:
        return _scattered(count, draw, width, height)
    if kind == "row" and width < height * 0.6:
        kind = "column"
    if kind == "column" and height < width * 0.6:
        kind = "row"
    if count > CROWD:
        kind = "grid"
    columns = {"row": count, "column": 1}.get(kind) or _columns(count, draw)
    return _lined_up(count, draw, width, height, columns=columns)


def _columns(count: int, draw: random.Random) -> int:
    return math.ceil(count**0.5) if count > CROWD else draw.randint(2, max(2, (count + 1) // 2))


def _alone(draw: random.Random, width: int, height: int) -> Box:
    side = min(width, height)
    size = side * draw.uniform(SMALLEST + 0.03, LARGEST)
    if draw.random() < 0.5:
        wobble = (side - size) * 0.05
        return Box(width / 2 + draw.uniform(-wobble, wobble), height / 2 + draw.uniform(-wobble, wobble), size)
    half = size / 2
    return Box(draw.uniform(half, width - half), draw.uniform(half, height - half), size)


def _lined_up(count: int, draw: random.Random, width: int, height: int, *, columns: int) -> tuple[Box, ...]:
    """A grid filled row by row (one row or one column included), evenly spaced over all or part of the canvas."""
    rows = -(-count // columns)
    share_x, share_y = (1.0, 1.0) if draw.random() < 0.6 else (draw.uniform(0.5, 1.0), draw.uniform(0.5, 1.0))
    step_x, step_y = width * share_x / columns, height * share_y / rows
    left, top = draw.uniform(0, width * (1 - share_x)), draw.uniform(0, height * (1 - share_y))
    side = min(width, height)
    # Things in a row often touch the limits of their places; tiny ones in wide places are common too.
    largest = min(min(step_x, step_y) * 0.95, side * LARGEST)
    size = max(min(largest, side * draw.uniform(SMALLEST, 0.6)), min(largest, side * SMALLEST))
    if count > CROWD:
        size = largest * draw.uniform(0.6, 1.0)
    slack = max(0.0, min(step_x, step_y) - size) * draw.choice((0.0, 0.05, 0.25))
    boxes = []
    for index in range(count):
        row, column = divmod(index, columns)
        own = size * draw.uniform(0.8, 1.0) if slack else size
        x = left + (column + 0.5) * step_x + draw.uniform(-slack, slack)
        y = top + (row + 0.5) * step_y + draw.uniform(-slack, slack)
        boxes.append(_inside(Box(x, y, own), width, height))
    return tuple(boxes)


def _scattered(count: int, draw: random.Random, width: int, height: int) -> tuple[Box, ...]:
    """Places at random that keep clear of each other; things shrink until all fit."""
    side = min(width, height)
    size = side * draw.uniform(SMALLEST, 0.5)
    gap = draw.uniform(1.02, 1.4)
    spread = draw.choice((1.0, 1.0, 1.5, 2.0))
    boxes: list[Box] = []
    misses = 0
    while len(boxes) < count:
        own = max(side * SMALLEST, size * draw.uniform(1 / spread, 1.0))
        half = own / 2
        box = Box(draw.uniform(half, width - half), draw.uniform(half, height - half), own)
        if all(_apart(box, other, gap) for other in boxes):
            boxes.append(box)
            continue
        misses += 1
        if misses % 15 == 0:
            size = max(size * 0.8, side * SMALLEST)
            boxes = boxes[: len(boxes) // 2]
    return tuple(boxes)


def _apart(one: Box, other: Box, gap: float) -> bool:
    reach = (one.size + other.size) / 2 * gap
    return abs(one.x - other.x) > reach or abs(one.y - other.y) > reach


def _inside(box: Box, width: int, height: int) -> Box:
    half = box.size / 2
    return Box(min(max(box.x, half), width - half), min(max(box.y, half), height - half), box.size)
