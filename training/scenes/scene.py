"""Scenes: what an image will show, as objects in boxes on a background. Also samples scenes of flat shapes.

A scene depends only on its seed, index and split, so training and evaluation share none. Must not import `rendering`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.scenes.colours import COLOURS, RGB, WHITE, distance, jittered, names_visible_on, shade
from training.scenes.layouts import Box, arrange

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
MAX_OBJECTS = 6
SIDES = ("left", "right", "top", "bottom", "middle")

COUNT_WEIGHTS = (26, 20, 18, 13, 11, 9)
"""The weights of 1, 2, ... 6 objects in a scene."""

ROW_WEIGHT = 0.3
"""The weight of the vertical position in the reading order; the horizontal position has weight 1."""

_NEAR = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
_MIN_LEAD = 0.06
_MIDDLE_RADIUS = 0.12


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene: its kind, its box in pixels and its look. `colour` is None except for flat shapes."""

    kind: str
    colour: str | None
    box: Box
    fill: RGB
    angle: float = 0.0
    outline: RGB | None = None
    outline_share: float = 0.0
    hollow: bool = False
    variant: float = 0.0
    """Which of the concept's sprites is drawn, as a fraction of their number; 0 is the first."""

    mirrored: bool = False
    stretch: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A canvas and its objects. `background` has the two ends of a gradient, or one colour twice."""

    width: int
    height: int
    background: tuple[RGB, RGB]
    objects: tuple[SceneObject, ...]
    """The objects in reading order."""

    ood_kind: str = ""
    """The kind of an out-of-distribution image (see `out_of_distribution.KINDS`), or "" for any other image."""

    photograph: bool = False
    """Whether the image is a photograph, of which the language model learns only what it shows."""

    @property
    def flat(self) -> bool:
        """Whether the objects are flat shapes."""
        return any(obj.colour for obj in self.objects)

    def kinds(self) -> Counter[tuple[str, str | None]]:
        """The number of objects of each (kind, colour)."""
        return Counter((obj.kind, obj.colour) for obj in self.objects)

    def count(self, kind: str | None = None, colour: str | None = None) -> int:
        """The number of objects of `kind` and `colour`; None means any kind or colour."""
        return sum((kind or t.kind) == t.kind and (colour or t.colour) == t.colour for t in self.objects)

    def at(self, side: str) -> SceneObject | None:
        """The object at `side` or in the middle, or None if people would disagree on which object that is."""
        if not self.objects:
            return None
        positions = [(t.box.x / self.width, t.box.y / self.height) for t in self.objects]
        if side == "middle":
            return self._middle(positions)
        along_x, along_y = _NEAR[side]
        order = sorted(range(len(positions)), key=lambda i: -(along_x * positions[i][0] + along_y * positions[i][1]))
        scores = [along_x * positions[i][0] + along_y * positions[i][1] for i in order]
        nearest = [self.objects[i] for i, score in zip(order, scores, strict=True) if scores[0] - score < _MIN_LEAD]
        if len(positions) == 1 and scores[0] - (along_x + along_y) * 0.5 < 0.1:
            return None  # a single object is at a side only if it is off the centre
        are_alike = all((t.kind, t.colour) == (nearest[0].kind, nearest[0].colour) for t in nearest)
        return self.objects[order[0]] if are_alike and (len(nearest) == 1 or len(positions) > len(nearest)) else None

    def _middle(self, positions: list[tuple[float, float]]) -> SceneObject | None:
        near = [i for i, (x, y) in enumerate(positions) if max(abs(x - 0.5), abs(y - 0.5)) < _MIDDLE_RADIUS]
        clear = [i for i, (x, y) in enumerate(positions) if max(abs(x - 0.5), abs(y - 0.5)) < 2 * _MIDDLE_RADIUS]
        return self.objects[near[0]] if len(near) == 1 and len(clear) == 1 else None


def sample_flat_scene(seed: int, index: int, *, split: str, numbers: Sequence[int] = ()) -> Scene:
    """A random scene of flat shapes, which is the same for the same `seed`, `index` and `split` on every machine.

    The number of objects is drawn from `numbers` if given, else by `COUNT_WEIGHTS`.
    """
    rng = random.Random(f"{split}/{seed}/{index}")
    width, height = sample_canvas_size(rng)
    background = sample_background(rng)
    number = rng.choice(numbers or rng.choices(range(1, MAX_OBJECTS + 1), COUNT_WEIGHTS))
    boxes = arrange(number, rng, width=width, height=height)
    visible = [set(names_visible_on(colour)) for colour in background]
    colours = [name for name in COLOURS if name in visible[0] & visible[1]]
    kinds = _sample_kinds(len(boxes), rng, colours)
    style = _ShapeStyle.sample(rng)
    shades = {colour: shade(colour, rng) for _, colour in kinds}
    objects = tuple(
        _sample_object(box, kind, rng, shades=shades, style=style) for box, kind in zip(boxes, kinds, strict=True)
    )
    return Scene(width, height, background, sort_in_reading_order(objects, width, height))


def sort_in_reading_order(objects: Sequence[SceneObject], width: int, height: int) -> tuple[SceneObject, ...]:
    """Sort objects from left to right, and objects in one column from top to bottom."""
    return tuple(sorted(objects, key=lambda obj: obj.box.x / width + ROW_WEIGHT * obj.box.y / height))


@dataclass(frozen=True)
class _ShapeStyle:
    """What the shapes of one image share: how they are rotated and outlined."""

    rotation: str
    edge: str
    edge_colour: RGB
    edge_share: float

    @staticmethod
    def sample(rng: random.Random) -> _ShapeStyle:
        return _ShapeStyle(
            rotation=rng.choices(("upright", "tilted", "any"), (60, 20, 20))[0],
            edge=rng.choices(("none", "line", "hollow"), (72, 23, 5))[0],
            edge_colour=rng.choice(((0, 0, 0), (0, 0, 0), (60, 60, 60), (128, 128, 128), WHITE)),
            edge_share=rng.uniform(0.01, 0.06),
        )


def _sample_object(
    box: Box, kind: tuple[str, str], rng: random.Random, *, shades: dict[str, RGB], style: _ShapeStyle
) -> SceneObject:
    shape, colour = kind
    fill = shades[colour] if rng.random() < 0.8 else shade(colour, rng)
    angle = {"upright": 0.0, "tilted": rng.uniform(-20, 20), "any": rng.uniform(-180, 180)}[style.rotation]
    if shape == "heart" and style.rotation == "any":
        angle /= 4  # an upside-down heart looks like a leaf or a spade
    if style.edge == "hollow":
        return SceneObject(shape, colour, box, fill, angle, fill, max(0.05, style.edge_share * 2), hollow=True)
    if style.edge == "line" and distance(fill, style.edge_colour) > 60:
        return SceneObject(shape, colour, box, fill, angle, style.edge_colour, style.edge_share)
    return SceneObject(shape, colour, box, fill, angle)


def sample_canvas_size(rng: random.Random) -> tuple[int, int]:
    """A random width and height: a square, a usual screen format, or any ratio from 1:2.5 to 2.5:1."""
    short_side = rng.choice((96, 128, 160, 192, 224, 256))
    ratio = rng.choices((1.0, 4 / 3, 3 / 4, 2.0, 2.5 ** rng.uniform(-1, 1)), (50, 14, 6, 6, 24))[0]
    return (round(short_side * ratio), short_side) if ratio >= 1 else (short_side, round(short_side / ratio))


def sample_background(rng: random.Random) -> tuple[RGB, RGB]:
    """A random background: one colour, or two for a gradient."""
    kind = rng.choices(("white", "light", "dark", "grey", "coloured", "gradient"), (50, 14, 12, 5, 10, 9))[0]
    if kind == "white":
        return WHITE, WHITE
    if kind == "gradient":
        first = _sample_colour(rng.choice(("light", "dark", "coloured")), rng)
        second = jittered(first, rng, amount=45)
        return first, second
    colour = _sample_colour(kind, rng)
    return colour, colour


def _sample_colour(kind: str, rng: random.Random) -> RGB:
    if kind == "light":
        tone = rng.randint(225, 255)
        return jittered((tone, tone, tone), rng, amount=22)
    if kind == "dark":
        tone = rng.choice((0, rng.randint(0, 60)))
        return jittered((tone, tone, tone), rng, amount=18 if tone else 0)
    if kind == "grey":
        tone = rng.randint(90, 220)
        return tone, tone, tone
    return shade(rng.choice([name for name in COLOURS if name not in ("white", "black")]), rng)


def _sample_kinds(count: int, rng: random.Random, colours: list[str]) -> list[tuple[str, str]]:
    """A shape and a colour for each object: all equal, of one shape or one colour, of a few kinds, or independent."""
    scheme = rng.choices(("same", "shape", "colour", "few", "any"), (30, 13, 13, 22, 22))[0]
    pool_size = {"same": 1, "few": rng.choice((2, 2, 3))}.get(scheme, count)
    pool = [(rng.choice(SHAPES), rng.choice(colours)) for _ in range(pool_size)]
    if scheme == "shape":
        pool = [(pool[0][0], colour) for _, colour in pool]
    if scheme == "colour":
        pool = [(shape, pool[0][1]) for shape, _ in pool]
    kinds = pool[:count] + [rng.choice(pool) for _ in range(count - len(pool))]
    if rng.random() < 0.5:
        rng.shuffle(kinds)
    return kinds
