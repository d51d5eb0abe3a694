"""Conversations about a scene: which questions follow which, the newest last.

Knows what can be asked of a scene and what a follow-up leans on; knows no language and no prompt.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from training.scenes.colours import COLOURS
from training.scenes.scene import SHAPES, SIDES, Scene
from training.tasks.questions import Ask

CAPTION = Ask("caption", "what")
Talk = list[Ask]
Manner = Literal["any", "short", "long"]


def single(scene: Scene, draw: random.Random, *, manner: Manner = "any") -> Ask:
    """One question that needs no other: one with a long answer (a caption), with a short one, or any."""
    makers = {
        maker: share for maker, share in _SINGLES.items() if manner == "any" or (maker in _LONG) == (manner == "long")
    }
    while True:
        ask = draw.choices(list(makers), list(makers.values()))[0](scene, draw)
        if ask:
            return ask


def conversation(scene: Scene, draw: random.Random) -> Talk:
    """Two to four questions; mostly the newest can only be understood after the others."""
    while True:
        talk = draw.choices(list(_TALKS), list(_TALKS.values()))[0](scene, draw)
        if len(talk) > 1:
            return talk[: draw.randint(2, len(talk))]


def _count(scene: Scene, draw: random.Random) -> Ask:
    return Ask("count", "count", *_some(scene, draw, likely=0.7))


def _exists(scene: Scene, draw: random.Random) -> Ask:
    return Ask("exists", "exists", *_either(scene, draw))


def _colour(scene: Scene, draw: random.Random) -> Ask | None:
    """The colour of all, or of all of one shape."""
    shape = draw.choice([None, *{thing.kind for thing in scene.things}])
    total, colours = scene.count(shape), {t.colour for t in scene.things if shape in (None, t.kind)}
    if total == 1:
        return Ask("colour_the" if shape or draw.random() < 0.3 else "colour_it", "colour", shape)
    if len(colours) == 1 and draw.random() < 0.1:
        return Ask("colour_the" if shape else "colour_it", "colour", shape)
    if not shape:
        return Ask(draw.choice(("colour_they", "colour_the_many")), "colour")
    return Ask("colour_the_many", "colour", shape)


def _shape(scene: Scene, draw: random.Random) -> Ask | None:
    """The shape of all, or of all of one colour."""
    colour = draw.choice([None, None, *{thing.colour for thing in scene.things}])
    if colour and scene.count(None, colour) != 1:
        return None
    if colour:
        return Ask("shape_the", "shape", None, colour)
    return Ask("shape_it" if len(scene.things) < 2 else "shape_they", "shape")


def _what(_: Scene, __: random.Random) -> Ask:
    return Ask("what", "what")


def _caption(_: Scene, __: random.Random) -> Ask:
    return CAPTION


def _side(scene: Scene, draw: random.Random, *, but: str | None = None) -> Ask | None:
    known = [side for side in SIDES if side != but and (scene.at(side) or not scene.things)]
    if not known:
        return None
    wording, wants = draw.choice(
        (("side", "what"), ("side", "what"), ("colour_side", "colour"), ("shape_side", "shape"))
    )
    return Ask(wording, wants, side=draw.choice(known))


def _count_then_colour(scene: Scene, draw: random.Random) -> Talk:
    shape, colour = draw.choice(([None, None], [None, None], _some(scene, draw, likely=1.0)))
    number = scene.count(shape, colour)
    if not number:
        return []
    first = Ask("count", "count", shape, colour)
    it_or_they = "it" if number == 1 else "they"
    ask_colour = Ask(f"colour_{it_or_they}", "colour", shape, colour)
    ask_shape = Ask(f"shape_{it_or_they}", "shape", shape, colour)
    return [first, ask_shape, ask_colour] if draw.random() < 0.3 else [first, ask_colour, ask_shape]


def _count_and_count(scene: Scene, draw: random.Random) -> Talk:
    asks = [Ask("and_many", "count", *_some(scene, draw, likely=0.7)) for _ in range(3)]
    first = Ask("count", "count", asks[0].kind, asks[0].colour)
    talk = [first, *(ask for ask in asks[1:] if ask.kind or ask.colour)]
    last = talk[-1]
    if scene.count(last.kind, last.colour) > 1:
        talk.append(Ask("colour_they", "colour", last.kind, last.colour))
    return talk


def _sides(scene: Scene, draw: random.Random) -> Talk:
    first = _side(scene, draw)
    if not first or not first.side:
        return []
    talk = [Ask("side", "what", side=first.side)]
    talk += draw.choice(
        ([], [], [Ask("colour_it", "colour", side=first.side)], [Ask("shape_it", "shape", side=first.side)])
    )
    other = _side(scene, draw, but=first.side)
    if other and other.side:
        talk.append(Ask("and_side", "what", side=other.side))
        talk.append(
            draw.choice((Ask("colour_it", "colour", side=other.side), Ask("shape_it", "shape", side=other.side)))
        )
    return talk


def _exists_then(scene: Scene, draw: random.Random) -> Talk:
    talk = [_exists(scene, draw)]
    if draw.random() < 0.5:
        talk.append(Ask("and_a", "exists", *_either(scene, draw)))
    last = talk[-1]
    if scene.count(last.kind, last.colour):
        talk.append(Ask("how_many", "count", last.kind, last.colour))
    return talk


def _what_then(scene: Scene, draw: random.Random) -> Talk:
    """A caption or a name first, then a question about everything in the picture."""
    number = len(scene.things)
    if not number:
        return []
    it_or_they = "it" if number == 1 else "they"
    later = [
        Ask(f"colour_{it_or_they}", "colour"),
        Ask(f"shape_{it_or_they}", "shape"),
        Ask("how_many", "count"),
        _count(scene, draw),
    ]
    return [draw.choice((CAPTION, Ask("what", "what"))), *draw.sample(later, 2)]


def _unrelated(scene: Scene, draw: random.Random) -> Talk:
    return [single(scene, draw) for _ in range(3)]


def _some(scene: Scene, draw: random.Random, *, likely: float) -> list[str | None]:
    """A shape, a colour, both or neither; with chance `likely` of something in the scene."""
    if scene.things and draw.random() < likely:
        thing = draw.choice(scene.things)
        shape, colour = thing.kind, thing.colour
    else:
        shape, colour = draw.choice(SHAPES), draw.choice(COLOURS)
    return list(draw.choice(((shape, None), (shape, None), (None, colour), (shape, colour), (None, None))))


def _either(scene: Scene, draw: random.Random) -> list[str | None]:
    """A shape, a colour or both, as often in the scene as not; half of those that are not, are nearly."""
    present = sorted({(thing.kind, thing.colour) for thing in scene.things})
    manner = draw.choice(("shape", "colour", "both"))
    shape, colour = draw.choice(present) if present else (draw.choice(SHAPES), draw.choice(COLOURS))
    if draw.random() < 0.5 or not present:
        if manner == "shape" or draw.random() < 0.5:
            shape = draw.choice(SHAPES)
        else:
            colour = draw.choice(COLOURS)
        if manner == "colour":
            colour = draw.choice(COLOURS)
    return [None if manner == "colour" else shape, None if manner == "shape" else colour]


_SINGLES: dict[Callable[[Scene, random.Random], Ask | None], float] = {
    _count: 30,
    _colour: 16,
    _shape: 9,
    _what: 8,
    _caption: 11,
    _side: 14,
    _exists: 14,
}
_LONG = (_what, _caption)
_TALKS: dict[Callable[[Scene, random.Random], Talk], float] = {
    _count_then_colour: 24,
    _count_and_count: 16,
    _sides: 24,
    _exists_then: 12,
    _what_then: 12,
    _unrelated: 12,
}
