"""Questions and answers in plain words, in all eighty languages: what is asked of a scene, how, and what is true.

The counterpart of `dialogues` and `questions` for languages without grammar here, and for everyday things in every
language. Knows scenes and plain words; knows no prompt and no pixels.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from training.lexicon import TONGUES, english_nouns
from training.lexicon.lexicon import Plain
from training.scenes.everyday import NAMES
from training.scenes.scene import SHAPES, Scene, SceneObject
from training.tasks.questions import Ask, meant, worded

Talk = list[Ask]
Maker = Callable[[Scene, random.Random], Talk | None]

SIDES = ("left", "right", "middle")
ENGLISH_SIDES = ("top", "bottom")
"""Sides that the tables have no words for; they are asked about in English, whatever the answer's language."""

WHAT, CAPTION, COUNT = Ask("what", "what"), Ask("caption", "what"), Ask("count", "count")
COLOUR, SHAPE = Ask("colour", "colour"), Ask("shape", "shape")

ENGLISH = {
    "count_of": "count",
    "and_of": "and_many",
    "left": "side",
    "right": "side",
    "middle": "side",
    "top": "side",
    "bottom": "side",
    "and_left": "and_side",
    "and_right": "and_side",
    "colour": "colour_it",
    "shape": "shape_it",
}
"""The wordings of English that say the same as the plain ones, where their keys differ."""

ENGLISH_THINGS = (
    {"one": "thing", "a": "a thing", "many": "things"},
    {"one": "object", "a": "an object", "many": "objects"},
)
TABLE_SHARE = 0.25
"""How often English takes its plain wording too."""


def answer(ask: Ask, scene: Scene, plain: Plain) -> str:
    """The right answer in the language's plain words."""
    if scene.out_of_distribution:
        return plain.unknown
    objects = meant(ask, scene)
    if ask.wants == "count":
        return plain.numbers[len(objects)]
    if ask.wants == "exists":
        return plain.yes if objects else plain.no
    if not objects:
        return plain.nothing
    if ask.wants == "colour":
        return plain.join([plain.colours[name] for name in dict.fromkeys(obj.colour for obj in objects) if name])
    return described(objects, plain)


def described(objects: tuple[SceneObject, ...], plain: Plain) -> str:
    """The names of the things: each kind with its number, in the order in which they are first met."""
    kinds = Counter(obj.kind for obj in objects)
    return plain.join([plain.counted(kind, count) for kind, count in kinds.items()])


def phrase(ask: Ask, plain: Plain, rng: random.Random) -> str:
    """The question in the language's words."""
    if plain.code == "en" and ask.wording != "else" and (needs_english(ask) or rng.random() >= TABLE_SHARE):
        return _english(ask, rng)
    name = plain.called(ask.kind) if ask.kind else ""
    return rng.choice(plain.questions[ask.wording]).format(name=name)


def needs_english(ask: Ask) -> bool:
    """Whether only English has words for the question."""
    return ask.wording in ENGLISH_SIDES


def _english(ask: Ask, rng: random.Random) -> str:
    """The question as English-speakers type it, with articles and plurals."""
    tongue = TONGUES["en"]
    wording = ENGLISH.get(ask.wording, ask.wording)
    if ask.wants == "exists" and ask.wording == "and_of":
        wording = "and_a"
    wider = Ask(wording, ask.wants, ask.kind, ask.colour, ask.side)
    if ask.kind in SHAPES:
        return worded(wider, tongue, tongue.forms(rng.choice(tongue.synonyms[ask.kind]), None), rng)
    return worded(wider, tongue, english_nouns.forms(ask.kind) if ask.kind else rng.choice(ENGLISH_THINGS), rng)


def single(scene: Scene, rng: random.Random, *, manner: str) -> Ask:
    """One question that needs no other: what is there ("long"), any other ("short"), or any."""
    makers = _LONG if manner == "long" else _SHORT if manner == "short" else {**_LONG, **_SHORT}
    return _drawn(makers, scene, rng)[0]


def conversation(scene: Scene, rng: random.Random) -> Talk:
    """Two or three questions; mostly the newest can only be understood after the others."""
    talk = _drawn(_TALKS, scene, rng)
    return talk[: rng.randint(2, len(talk))]


def _drawn(makers: dict[Maker, float], scene: Scene, rng: random.Random) -> Talk:
    while True:
        talk = rng.choices(list(makers), list(makers.values()))[0](scene, rng)
        if talk:
            return talk


def stray(rng: random.Random) -> Ask:
    """A question about an everyday thing, whatever there is to see."""
    return rng.choice((Ask("exists", "exists", rng.choice(NAMES)), Ask("count_of", "count", rng.choice(NAMES))))


def _what(_: Scene, rng: random.Random) -> Talk:
    return [rng.choice((WHAT, WHAT, CAPTION))]


def _count(_: Scene, __: random.Random) -> Talk:
    return [COUNT]


def _count_of(scene: Scene, rng: random.Random) -> Talk:
    return [Ask("count_of", "count", _either(scene, rng))]


def _exists(scene: Scene, rng: random.Random) -> Talk:
    return [Ask("exists", "exists", _either(scene, rng))]


def _side(scene: Scene, rng: random.Random) -> Talk | None:
    known = _sides(scene, (*SIDES, *SIDES, *ENGLISH_SIDES))
    return [_at(rng.choice(known))] if known else None


def _colour(scene: Scene, _: random.Random) -> Talk | None:
    return (
        [COLOUR]
        if scene.out_of_distribution or (scene.flat and len({obj.colour for obj in scene.objects}) == 1)
        else None
    )


def _shape(scene: Scene, _: random.Random) -> Talk | None:
    return [SHAPE] if scene.flat and len(scene.kinds()) == 1 else None


def _sides_in_turn(scene: Scene, rng: random.Random) -> Talk | None:
    known = _sides(scene)
    rng.shuffle(known)
    if not known:
        return None
    first = _at(known[0])
    talk = [first]
    there = scene.at(known[0])
    if scene.flat and rng.random() < 0.6:
        talk.append(rng.choice((Ask("colour", "colour", side=known[0]), Ask("shape", "shape", side=known[0]))))
    others = [side for side in known[1:] if side != "middle"]
    if others and rng.random() < 0.7:
        talk.append(Ask(f"and_{others[0]}", "what", side=others[0]))
        if scene.flat:
            talk.append(Ask("colour", "colour", side=others[0]))
    elif there:
        talk.append(Ask("else", "else", there.kind))
    return talk if len(talk) > 1 else None


def _counts_in_turn(scene: Scene, rng: random.Random) -> Talk:
    return [_count_of(scene, rng)[0], *(Ask("and_of", "count", _either(scene, rng)) for _ in range(2))]


def _exists_in_turn(scene: Scene, rng: random.Random) -> Talk:
    kind = _either(scene, rng)
    talk = [Ask("exists", "exists", kind)]
    if scene.count(kind) and rng.random() < 0.4:
        return [*talk, Ask("else", "else", kind)]
    return [*talk, Ask("and_of", "exists", _either(scene, rng)), _count_of(scene, rng)[0]]


def _what_then(scene: Scene, rng: random.Random) -> Talk:
    later = [COUNT, _count_of(scene, rng)[0], _exists(scene, rng)[0], *(_colour(scene, rng) or ()), WHAT]
    return [rng.choice((WHAT, CAPTION)), *rng.sample(later, 2)]


def _unrelated(scene: Scene, rng: random.Random) -> Talk:
    return [single(scene, rng, manner=rng.choice(("short", "long"))) for _ in range(2)]


def _at(side: str) -> Ask:
    return Ask(side, "what", side=side)


def _sides(scene: Scene, sides: Sequence[str] = SIDES) -> list[str]:
    return [side for side in sides if scene.out_of_distribution or scene.at(side)]


def _either(scene: Scene, rng: random.Random) -> str:
    """A kind, as often in the scene as not."""
    if scene.objects and rng.random() < 0.5:
        return rng.choice(scene.objects).kind
    return rng.choice(SHAPES if scene.flat and rng.random() < 0.8 else NAMES)


_LONG: dict[Maker, float] = {_what: 1}
_SHORT: dict[Maker, float] = {_count: 14, _count_of: 20, _exists: 28, _side: 26, _colour: 8, _shape: 4}
_TALKS: dict[Maker, float] = {
    _sides_in_turn: 40,
    _counts_in_turn: 16,
    _exists_in_turn: 16,
    _what_then: 16,
    _unrelated: 12,
}
