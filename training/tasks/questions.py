"""One question about a scene: what it means, how a language words it, and the right answer.

Knows scenes and tongues; knows no conversation, no prompt and no pixels. An `Ask` keeps meaning and wording apart,
since "And on the right?" means "What is on the right?" only after another question.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from training.lexicon import Tongue
from training.scenes.scene import Scene, SceneObject

MOST_KINDS = 4
"""A caption names up to so many kinds of things; of more it only says how many things there are."""


@dataclass(frozen=True)
class Ask:
    """A question: the key of its wordings, what is wanted (count, colour, shape, what, else, exists) and of which
    things: of a kind, of a colour, at a side; of "else", the kind that was spoken of already."""

    wording: str
    wants: str
    kind: str | None = None
    colour: str | None = None
    side: str | None = None


def answer(ask: Ask, scene: Scene, tongue: Tongue) -> str:
    """The right answer in the tongue; "nothing" where there is nothing to speak of."""
    objects = meant(ask, scene)
    if ask.wants == "count":
        return tongue.numbers[len(objects)]
    if ask.wants == "exists":
        return tongue.yes if objects else tongue.no
    if not objects:
        return tongue.nothing
    if ask.wants == "colour":
        return tongue.join([tongue.colours[name] for name in dict.fromkeys(obj.colour for obj in objects) if name])
    if ask.wants == "shape":
        return _shapes(objects, tongue)
    return described(objects, tongue)


def described(objects: tuple[SceneObject, ...], tongue: Tongue) -> str:
    """A caption of the things: each kind with its number, in the order in which they are first met."""
    kinds = Counter((obj.kind, obj.colour) for obj in objects)
    if len(kinds) > MOST_KINDS:
        return tongue.counted(len(objects), None, None)
    return tongue.join([tongue.counted(count, *kind) for kind, count in kinds.items()])


def phrase(ask: Ask, tongue: Tongue, rng: random.Random) -> str:
    """The question in the tongue's words, one of its wordings at random."""
    noun = rng.choice(tongue.synonyms[ask.kind])
    return worded(ask, tongue, tongue.forms(noun, ask.colour), rng)


def worded(ask: Ask, tongue: Tongue, noun: Mapping[str, str], rng: random.Random) -> str:
    """The question in the tongue's words, about a noun whose forms are given."""
    side = rng.choice(tongue.sides[ask.side]) if ask.side else ""
    return rng.choice(tongue.questions[ask.wording]).format(**noun, side=side)


def meant(ask: Ask, scene: Scene) -> tuple[SceneObject, ...]:
    """The things that the question is about, in reading order."""
    if ask.side:
        obj = scene.at(ask.side)
        return (obj,) if obj else ()
    if ask.wants == "else":
        return tuple(obj for obj in scene.objects if obj.kind != ask.kind)
    return tuple(obj for obj in scene.objects if ask.kind in (None, obj.kind) and ask.colour in (None, obj.colour))


def _shapes(objects: tuple[SceneObject, ...], tongue: Tongue) -> str:
    names = Counter(obj.kind for obj in objects)
    if len(names) == 1:
        return tongue.shapes[objects[0].kind][len(objects) > 1]
    return tongue.join([tongue.counted(count, name, None) for name, count in names.items()])
