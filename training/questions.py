"""One question about a scene: what it means, how a language words it, and the right answer.

Knows scenes and tongues; knows no conversation, no prompt and no pixels. An `Ask` keeps meaning and wording apart,
since "And on the right?" means "What is on the right?" only after another question.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from training.scenes import Scene, Thing
from training.words import Tongue

MOST_KINDS = 4
"""A caption names up to so many kinds of things; of more it only says how many things there are."""


@dataclass(frozen=True)
class Ask:
    """A question: the key of its wordings, what is wanted (count, colour, shape, what, exists) and of which things."""

    wording: str
    wants: str
    shape: str | None = None
    colour: str | None = None
    side: str | None = None


def answer(ask: Ask, scene: Scene, tongue: Tongue) -> str:
    """The right answer in the tongue; "nothing" where there is nothing to speak of."""
    things = meant(ask, scene)
    if ask.wants == "count":
        return tongue.numbers[len(things)]
    if ask.wants == "exists":
        return tongue.yes if things else tongue.no
    if not things:
        return tongue.nothing
    if ask.wants == "colour":
        return tongue.join([tongue.colours[name] for name in dict.fromkeys(thing.colour for thing in things)])
    if ask.wants == "shape":
        return _shapes(things, tongue)
    return described(things, tongue)


def described(things: tuple[Thing, ...], tongue: Tongue) -> str:
    """A caption of the things: each kind with its number, in the order in which they are first met."""
    kinds = Counter((thing.shape, thing.colour) for thing in things)
    if len(kinds) > MOST_KINDS:
        return tongue.counted(len(things), None, None)
    return tongue.join([tongue.counted(count, *kind) for kind, count in kinds.items()])


def phrase(ask: Ask, tongue: Tongue, draw: random.Random) -> str:
    """The question in the tongue's words, one of its wordings at random."""
    noun = draw.choice(tongue.synonyms[ask.shape])
    words = tongue.forms(noun, ask.colour)
    side = draw.choice(tongue.sides[ask.side]) if ask.side else ""
    return draw.choice(tongue.questions[ask.wording]).format(**words, side=side)


def meant(ask: Ask, scene: Scene) -> tuple[Thing, ...]:
    """The things that the question is about, in reading order."""
    if ask.side:
        thing = scene.at(ask.side)
        return (thing,) if thing else ()
    return tuple(
        thing for thing in scene.things if ask.shape in (None, thing.shape) and ask.colour in (None, thing.colour)
    )


def _shapes(things: tuple[Thing, ...], tongue: Tongue) -> str:
    names = Counter(thing.shape for thing in things)
    if len(names) == 1:
        return tongue.shapes[things[0].shape][len(things) > 1]
    return tongue.join([tongue.counted(count, name, None) for name, count in names.items()])
