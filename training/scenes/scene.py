"""What a picture shows, before it is drawn: things of a kind, with a place on a background; here, flat shapes.

A scene is a function of a seed alone, so training and examination never share one. Knows no pixels beyond the canvas's
size, and no words.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.scenes.colours import COLOURS, RGB, WHITE, distance, jitter, shade, visible_on
from training.scenes.layouts import Box, arrange

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
MOST = 6
SIDES = ("left", "right", "top", "bottom", "middle")

COUNT_WEIGHTS = (26, 20, 18, 13, 11, 9)
"""How often a scene holds 1, 2, ... 6 things."""

DOWNWARDS = 0.3
"""How much of a step to the right a step down is worth in the order of reading."""

_NEAR = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
_CLEAR_LEAD = 0.06
_MIDDLE_REACH = 0.12


@dataclass(frozen=True)
class Thing:
    """One drawn thing: its kind by name (a shape, which has a colour too, or a concept, which has none), its place
    (centre and extent) as the canvas has it."""

    kind: str
    colour: str | None
    box: Box
    fill: RGB
    angle: float = 0.0
    outline: RGB | None = None
    outline_share: float = 0.0
    hollow: bool = False
    hand: float = 0.0
    """Of a concept: which of its drawings, as a share of all that there are; 0 is the first."""

    mirrored: bool = False
    stretch: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A canvas and the things on it. `background` is one colour, or two for a gradient."""

    width: int
    height: int
    background: tuple[RGB, RGB]
    things: tuple[Thing, ...]
    """In reading order."""

    strange: str = ""
    """What fills a picture of nothing that the world knows: see `strangers`."""

    @property
    def flat(self) -> bool:
        """Whether flat shapes lie here."""
        return any(thing.colour for thing in self.things)

    def kinds(self) -> Counter[tuple[str, str | None]]:
        """How many things there are of each (kind, colour)."""
        return Counter((thing.kind, thing.colour) for thing in self.things)

    def count(self, kind: str | None = None, colour: str | None = None) -> int:
        """How many things have the kind and the colour; None stands for any."""
        return sum((kind or t.kind) == t.kind and (colour or t.colour) == t.colour for t in self.things)

    def at(self, side: str) -> Thing | None:
        """The thing at a side or in the middle, or None where people would not agree which it is."""
        if not self.things:
            return None
        places = [(t.box.x / self.width, t.box.y / self.height) for t in self.things]
        if side == "middle":
            return self._middle(places)
        along_x, along_y = _NEAR[side]
        order = sorted(range(len(places)), key=lambda i: -(along_x * places[i][0] + along_y * places[i][1]))
        scores = [along_x * places[i][0] + along_y * places[i][1] for i in order]
        same = [self.things[i] for i, score in zip(order, scores, strict=True) if scores[0] - score < _CLEAR_LEAD]
        if len(places) == 1 and scores[0] - (along_x + along_y) * 0.5 < 0.1:
            return None  # a single thing is at a side only if it lies off the centre
        alike = all((t.kind, t.colour) == (same[0].kind, same[0].colour) for t in same)
        return self.things[order[0]] if alike and (len(same) == 1 or len(places) > len(same)) else None

    def _middle(self, places: list[tuple[float, float]]) -> Thing | None:
        near = [i for i, (x, y) in enumerate(places) if max(abs(x - 0.5), abs(y - 0.5)) < _MIDDLE_REACH]
        clear = [i for i, (x, y) in enumerate(places) if max(abs(x - 0.5), abs(y - 0.5)) < 2 * _MIDDLE_REACH]
        return self.things[near[0]] if len(near) == 1 and len(clear) == 1 else None


def make(seed: int, index: int, *, split: str, numbers: Sequence[int] = ()) -> Scene:
    """The scene of that number: the same for the same seed, index and split, on every machine.

    `numbers`, where given, are the numbers of things to choose from in place of the world's usual ones.
    """
    draw = random.Random(f"{split}/{seed}/{index}")
    width, height = canvas(draw)
    background = paper(draw)
    number = draw.choice(numbers or draw.choices(range(1, MOST + 1), COUNT_WEIGHTS))
    boxes = arrange(number, draw, width=width, height=height)
    common = [set(visible_on(one)) for one in background]
    colours = [name for name in COLOURS if name in common[0] & common[1]]
    kinds = _kinds(len(boxes), draw, colours)
    finish = _Finish.drawn(draw)
    shades = {colour: shade(colour, draw) for _, colour in kinds}
    things = tuple(
        _thing(box, kind, draw, shades=shades, finish=finish) for box, kind in zip(boxes, kinds, strict=True)
    )
    return Scene(width, height, background, in_reading_order(things, width, height))


def in_reading_order(things: Sequence[Thing], width: int, height: int) -> tuple[Thing, ...]:
    """Things from left to right; what stands in a column, from top to bottom."""
    return tuple(sorted(things, key=lambda thing: thing.box.x / width + DOWNWARDS * thing.box.y / height))


@dataclass(frozen=True)
class _Finish:
    """What the things of one picture have in common: how they turn and how they are edged."""

    turn: str
    edge: str
    edge_colour: RGB
    edge_share: float

    @staticmethod
    def drawn(draw: random.Random) -> _Finish:
        return _Finish(
            turn=draw.choices(("upright", "tilted", "any"), (60, 20, 20))[0],
            edge=draw.choices(("none", "line", "hollow"), (72, 23, 5))[0],
            edge_colour=draw.choice(((0, 0, 0), (0, 0, 0), (60, 60, 60), (128, 128, 128), WHITE)),
            edge_share=draw.uniform(0.01, 0.06),
        )


def _thing(box: Box, kind: tuple[str, str], draw: random.Random, *, shades: dict[str, RGB], finish: _Finish) -> Thing:
    shape, colour = kind
    fill = shades[colour] if draw.random() < 0.8 else shade(colour, draw)
    angle = {"upright": 0.0, "tilted": draw.uniform(-20, 20), "any": draw.uniform(-180, 180)}[finish.turn]
    if shape == "heart" and finish.turn == "any":
        angle /= 4  # a heart on its head is a leaf or an ace of spades
    if finish.edge == "hollow":
        return Thing(shape, colour, box, fill, angle, fill, max(0.05, finish.edge_share * 2), hollow=True)
    if finish.edge == "line" and distance(fill, finish.edge_colour) > 60:
        return Thing(shape, colour, box, fill, angle, finish.edge_colour, finish.edge_share)
    return Thing(shape, colour, box, fill, angle)


def canvas(draw: random.Random) -> tuple[int, int]:
    """Width and height: squares, usual screens, and anything from 1:2.5 to 2.5:1."""
    short = draw.choice((96, 128, 160, 192, 224, 256))
    ratio = draw.choices((1.0, 4 / 3, 3 / 4, 2.0, 2.5 ** draw.uniform(-1, 1)), (50, 14, 6, 6, 24))[0]
    return (round(short * ratio), short) if ratio >= 1 else (short, round(short / ratio))


def paper(draw: random.Random) -> tuple[RGB, RGB]:
    """What lies behind things: one colour, or two for a gradient."""
    kind = draw.choices(("white", "light", "dark", "grey", "coloured", "gradient"), (50, 14, 12, 5, 10, 9))[0]
    if kind == "white":
        return WHITE, WHITE
    if kind == "gradient":
        one = _plain(draw.choice(("light", "dark", "coloured")), draw)
        other = jitter(one, draw, amount=45)
        return one, other
    plain = _plain(kind, draw)
    return plain, plain


def _plain(kind: str, draw: random.Random) -> RGB:
    if kind == "light":
        tone = draw.randint(225, 255)
        return jitter((tone, tone, tone), draw, amount=22)
    if kind == "dark":
        tone = draw.choice((0, draw.randint(0, 60)))
        return jitter((tone, tone, tone), draw, amount=18 if tone else 0)
    if kind == "grey":
        tone = draw.randint(90, 220)
        return tone, tone, tone
    return shade(draw.choice([name for name in COLOURS if name not in ("white", "black")]), draw)


def _kinds(count: int, draw: random.Random, colours: list[str]) -> list[tuple[str, str]]:
    """A shape and a colour for each thing: all alike, alike in one respect, a few kinds, or each its own."""
    manner = draw.choices(("same", "shape", "colour", "few", "any"), (30, 13, 13, 22, 22))[0]
    pick = {"same": 1, "few": draw.choice((2, 2, 3))}.get(manner, count)
    pool = [(draw.choice(SHAPES), draw.choice(colours)) for _ in range(pick)]
    if manner == "shape":
        pool = [(pool[0][0], colour) for _, colour in pool]
    if manner == "colour":
        pool = [(shape, pool[0][1]) for shape, _ in pool]
    chosen = pool[:count] + [draw.choice(pool) for _ in range(count - len(pool))]
    if draw.random() < 0.5:
        draw.shuffle(chosen)
    return chosen
