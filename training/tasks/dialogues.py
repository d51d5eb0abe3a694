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


def single(scene: Scene, rng: random.Random, *, manner: Manner = "any") -> Ask:
    """One question that needs no other: one with a long answer (a caption), with a short one, or any."""
    makers = {
        maker: share for maker, share in _SINGLES.items() if manner == "any" or (maker in _LONG) == (manner == "long")
    }
    while True:
        ask = rng.choices(list(makers), list(makers.values()))[0](scene, rng)
        if ask:
            return ask


def conversation(scene: Scene, rng: random.Random) -> Talk:
    """Two to four questions; mostly the newest can only be understood after the others."""
    while True:
        talk = rng.choices(list(_TALKS), list(_TALKS.values()))[0](scene, rng)
        if len(talk) > 1:
            return talk[: rng.randint(2, len(talk))]


def _count(scene: Scene, rng: random.Random) -> Ask:
    return Ask("count", "count", *_some(scene, rng, likely=0.7))


def _exists(scene: Scene, rng: random.Random) -> Ask:
    return Ask("exists", "exists", *_either(scene, rng))


def _colour(scene: Scene, rng: random.Random) -> Ask | None:
    """The colour of all, or of all of one shape."""
    shape = rng.choice([None, *{obj.kind for obj in scene.objects}])
    total, colours = scene.count(shape), {t.colour for t in scene.objects if shape in (None, t.kind)}
    if total == 1:
        return Ask("colour_the" if shape or rng.random() < 0.3 else "colour_it", "colour", shape)
    if len(colours) == 1 and rng.random() < 0.1:
        return Ask("colour_the" if shape else "colour_it", "colour", shape)
    if not shape:
        return Ask(rng.choice(("colour_they", "colour_the_many")), "colour")
    return Ask("colour_the_many", "colour", shape)


def _shape(scene: Scene, rng: random.Random) -> Ask | None:
    """The shape of all, or of all of one colour."""
    colour = rng.choice([None, None, *{obj.colour for obj in scene.objects}])
    if colour and scene.count(None, colour) != 1:
        return None
    if colour:
        return Ask("shape_the", "shape", None, colour)
    return Ask("shape_it" if len(scene.objects) < 2 else "shape_they", "shape")


def _what(_: Scene, __: random.Random) -> Ask:
    return Ask("what", "what")


def _caption(_: Scene, __: random.Random) -> Ask:
    return CAPTION


def _side(scene: Scene, rng: random.Random, *, but: str | None = None) -> Ask | None:
    known = [side for side in SIDES if side != but and (scene.at(side) or not scene.objects)]
    if not known:
        return None
    wording, wants = rng.choice(
        (("side", "what"), ("side", "what"), ("colour_side", "colour"), ("shape_side", "shape"))
    )
    return Ask(wording, wants, side=rng.choice(known))


def _count_then_colour(scene: Scene, rng: random.Random) -> Talk:
    shape, colour = rng.choice(([None, None], [None, None], _some(scene, rng, likely=1.0)))
    number = scene.count(shape, colour)
    if not number:
        return []
    first = Ask("count", "count", shape, colour)
    it_or_they = "it" if number == 1 else "they"
    ask_colour = Ask(f"colour_{it_or_they}", "colour", shape, colour)
    ask_shape = Ask(f"shape_{it_or_they}", "shape", shape, colour)
    return [first, ask_shape, ask_colour] if rng.random() < 0.3 else [first, ask_colour, ask_shape]


def _count_and_count(scene: Scene, rng: random.Random) -> Talk:
    asks = [Ask("and_many", "count", *_some(scene, rng, likely=0.7)) for _ in range(3)]
    first = Ask("count", "count", asks[0].kind, asks[0].colour)
    talk = [first, *(ask for ask in asks[1:] if ask.kind or ask.colour)]
    last = talk[-1]
    if scene.count(last.kind, last.colour) > 1:
        talk.append(Ask("colour_they", "colour", last.kind, last.colour))
    return talk


def _sides(scene: Scene, rng: random.Random) -> Talk:
    first = _side(scene, rng)
    if not first or not first.side:
        return []
    talk = [Ask("side", "what", side=first.side)]
    talk += rng.choice(
        ([], [], [Ask("colour_it", "colour", side=first.side)], [Ask("shape_it", "shape", side=first.side)])
    )
    other = _side(scene, rng, but=first.side)
    if other and other.side:
        talk.append(Ask("and_side", "what", side=other.side))
        talk.append(
            rng.choice((Ask("colour_it", "colour", side=other.side), Ask("shape_it", "shape", side=other.side)))
        )
    return talk


def _exists_then(scene: Scene, rng: random.Random) -> Talk:
    talk = [_exists(scene, rng)]
    if rng.random() < 0.5:
        talk.append(Ask("and_a", "exists", *_either(scene, rng)))
    last = talk[-1]
    if scene.count(last.kind, last.colour):
        talk.append(Ask("how_many", "count", last.kind, last.colour))
    return talk


def _what_then(scene: Scene, rng: random.Random) -> Talk:
    """A caption or a name first, then a question about everything in the picture."""
    number = len(scene.objects)
    if not number:
        return []
    it_or_they = "it" if number == 1 else "they"
    later = [
        Ask(f"colour_{it_or_they}", "colour"),
        Ask(f"shape_{it_or_they}", "shape"),
        Ask("how_many", "count"),
        _count(scene, rng),
    ]
    return [rng.choice((CAPTION, Ask("what", "what"))), *rng.sample(later, 2)]


def _unrelated(scene: Scene, rng: random.Random) -> Talk:
    return [single(scene, rng) for _ in range(3)]


def _some(scene: Scene, rng: random.Random, *, likely: float) -> list[str | None]:
    """A shape, a colour, both or neither; with chance `likely` of something in the scene."""
    if scene.objects and rng.random() < likely:
        obj = rng.choice(scene.objects)
        shape, colour = obj.kind, obj.colour
    else:
        shape, colour = rng.choice(SHAPES), rng.choice(COLOURS)
    return list(rng.choice(((shape, None), (shape, None), (None, colour), (shape, colour), (None, None))))


def _either(scene: Scene, rng: random.Random) -> list[str | None]:
    """A shape, a colour or both, as often in the scene as not; half of those that are not, are nearly."""
    present = sorted({(obj.kind, obj.colour) for obj in scene.objects})
    manner = rng.choice(("shape", "colour", "both"))
    shape, colour = rng.choice(present) if present else (rng.choice(SHAPES), rng.choice(COLOURS))
    if rng.random() < 0.5 or not present:
        if manner == "shape" or rng.random() < 0.5:
            shape = rng.choice(SHAPES)
        else:
            colour = rng.choice(COLOURS)
        if manner == "colour":
            colour = rng.choice(COLOURS)
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
