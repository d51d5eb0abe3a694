"""Samples plain questions and dialogues: what people ask about a scene, of which half the questions with yes or no have
the answer yes.

A general name is as likely as a kind's own. Must not import `samples` or `plain`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from training.scenes.colours import COLOURS
from training.scenes.everyday import NAMES
from training.scenes.general_names import general_names, is_doubtful, members
from training.scenes.groups import near_kinds, sample_general_name
from training.scenes.scene import MAX_OBJECTS, SHAPES, Scene
from training.tasks import templates
from training.tasks.questions import Question, referents

Dialogue = list[Question]
Sampler = Callable[[Scene, random.Random], Dialogue | None]

PREFIX = "plain "

GENERAL_SHARE, SEVERAL_SHARE, NEAR_SHARE, SHAPE_SHARE = 0.5, 0.6, 0.6, 0.7
"""The probabilities that a question uses a general name, that it uses one of several kinds in the image if it can, that
an absent kind has a general name in common with a kind in the image, and that a question about flat shapes names a
shape."""

PRESENT_SHARE, NEXT_NUMBER_SHARE, SINGLE_SHARE = 0.75, 0.7, 0.25
"""The probabilities that a question for a number is about something in the image, that a wrong number is one more or
one less, and that a number is asked although no kind has two objects (it is never right then)."""

ATTEMPTS = 12
"""How often a kind is drawn again because people would disagree about it."""

WHAT, COUNT_ALL, HOW_MANY = (
    Question(PREFIX + key, kind) for key, kind in (("what", "what"), ("count_all", "count"), ("how_many", "count"))
)
SHAPE_WORDS = frozenset(("ball", "soccer ball", "package", "full moon", "sun", "broken heart", "gem stone", "game die"))
"""Kinds of which people might say that a flat shape is one."""


def sample_plain_question(scene: Scene, rng: random.Random, *, length: str) -> Question:
    """A random question that needs no earlier turn. It asks what there is if `length` is "long", but not if "short"."""
    if length == "long" or (length == "any" and rng.random() < 0.25):
        return WHAT
    return _sample(_SHORT, scene, rng)[0]


def sample_plain_dialogue(scene: Scene, rng: random.Random) -> Dialogue:
    """A random dialogue of two or three questions, of which the newest usually refers to an earlier one."""
    dialogue = _sample(_DIALOGUES, scene, rng)
    return dialogue[: rng.randint(2, len(dialogue))]


def _sample(weights: dict[Sampler, float], scene: Scene, rng: random.Random) -> Dialogue:
    while True:
        dialogue = rng.choices(list(weights), list(weights.values()))[0](scene, rng)
        if dialogue:
            return dialogue


def _count(scene: Scene, rng: random.Random) -> Dialogue | None:
    kind = _kind(scene, rng, is_present=rng.random() < PRESENT_SHARE)
    return [Question(PREFIX + "count", "count", kind)] if kind else None


def _count_all(_: Scene, __: random.Random) -> Dialogue:
    return [COUNT_ALL]


def _exists(scene: Scene, rng: random.Random) -> Dialogue | None:
    kind = _kind(scene, rng, is_present=rng.random() < 0.5)
    return [Question(PREFIX + "exists", "exists", kind)] if kind else None


def _is_it(scene: Scene, rng: random.Random) -> Dialogue | None:
    if len({obj.kind for obj in scene.objects}) > 1:
        return None
    kind = _kind(scene, rng, is_present=rng.random() < 0.5)
    return [Question(PREFIX + "is_it", "exists", kind)] if kind else None


def _exists_number(scene: Scene, rng: random.Random) -> Dialogue | None:
    """Whether there are two or more objects of a kind; half the time the number is right."""
    if scene.photograph or scene.ood_kind:
        return None
    counts = {kind: _number_of(kind, scene) for kind in filter(None, (_present(scene, rng) for _ in range(ATTEMPTS)))}
    repeated = [kind for kind, count in counts.items() if count > 1]
    if not counts or (not repeated and rng.random() >= SINGLE_SHARE):
        return None
    if repeated and rng.random() < 0.5:
        kind = rng.choice(repeated)
        return [Question(PREFIX + "exists_number", "exists", kind, number=counts[kind])]
    kind = rng.choice(repeated if repeated and rng.random() < 0.5 else list(counts))
    wrong = [number for number in range(2, MAX_OBJECTS + 1) if number != counts[kind]]
    next_ones = [number for number in wrong if abs(number - counts[kind]) == 1]
    number = rng.choice(next_ones if rng.random() < NEXT_NUMBER_SHARE else wrong)
    return [Question(PREFIX + "exists_number", "exists", kind, number=number)]


def _colour(scene: Scene, _: random.Random) -> Dialogue | None:
    if scene.photograph or scene.ood_kind:
        return [Question(PREFIX + "colour_it", "colour")]
    if not scene.flat or len({obj.colour for obj in scene.objects}) > 1:
        return None
    return [Question(PREFIX + ("colour_it" if len(scene.objects) == 1 else "colour_they"), "colour")]


def _is_colour(scene: Scene, rng: random.Random) -> Dialogue | None:
    if not scene.flat or len({obj.colour for obj in scene.objects}) > 1:
        return None
    colour = scene.objects[0].colour
    if rng.random() < 0.5:
        colour = rng.choice([other for other in COLOURS if other != colour])
    return [Question(PREFIX + "is_colour", "exists", None, colour)]


def _counts(scene: Scene, rng: random.Random) -> Dialogue | None:
    first, second = _count(scene, rng), _count(scene, rng)
    if not first or not second:
        return None
    return [*first, Question(PREFIX + "and_count", "count", second[0].kind)]


def _exists_then_exists(scene: Scene, rng: random.Random) -> Dialogue | None:
    first, second = _exists(scene, rng), _exists(scene, rng)
    if not first or not second:
        return None
    return [*first, Question(PREFIX + "and_exists", "exists", second[0].kind)]


def _count_then_among(scene: Scene, rng: random.Random) -> Dialogue | None:
    """How many animals are there? Is a dog among them?"""
    kinds = [obj.kind for obj in scene.objects]
    names = [name for name in general_names() if members(name) & set(kinds) and not is_doubtful(name, kinds)]
    if not names:
        return None
    name = rng.choice(names)
    present = sorted(members(name) & set(kinds))
    absent = sorted(members(name) - set(kinds))
    kind = rng.choice(absent if absent and rng.random() < 0.5 else present)
    if is_doubtful(kind, kinds):
        return None
    return [Question(PREFIX + "count", "count", name), Question(PREFIX + "among", "exists", kind)]


def _other_side(scene: Scene, rng: random.Random) -> Dialogue | None:
    """What is on the left? And on the other side?"""
    if scene.photograph or scene.ood_kind or not (scene.at("left") and scene.at("right")):
        return None
    first, second = rng.sample(("left", "right"), 2)
    wording = f"{second}_of_it" if len(scene.objects) == 2 and rng.random() < 0.5 else "other_side"
    dialogue = [Question(first, "what", side=first), Question(PREFIX + wording, "what", side=second)]
    if scene.flat and rng.random() < 0.5:
        dialogue[1] = Question(PREFIX + "colour_it", "colour", side=first)
    return dialogue


def _colour_of_named(scene: Scene, rng: random.Random) -> Dialogue | None:
    """The colour of the only object of a shape, or of the object at a side."""
    if not scene.flat:
        return None
    sides = [side for side in ("left", "right") if scene.at(side)]
    if sides and rng.random() < 0.5:
        side = rng.choice(sides)
        return [Question(f"{PREFIX}colour_{side}", "colour", side=side)]
    kind = rng.choice(scene.objects).kind
    return [Question(PREFIX + "colour_the", "colour", kind)] if scene.count(kind) == 1 else None


def _exists_then_count(scene: Scene, rng: random.Random) -> Dialogue | None:
    """Is there an apple? How many are there? The second question is about the apples."""
    kind = _kind(scene, rng, is_present=True)
    if not kind:
        return None
    wording = rng.choice(("exists", "exists", "is_it"))
    return [Question(PREFIX + wording, "exists", kind), Question(PREFIX + "how_many", "count", kind)]


def _what_then_short(scene: Scene, rng: random.Random) -> Dialogue:
    later = rng.choice((_count_all, _count_all, _exists, _count, _colour, _is_it))(scene, rng) or [COUNT_ALL]
    return [rng.choice((WHAT, templates.WHAT, templates.CAPTION)), *later]


def _short_then_what(scene: Scene, rng: random.Random) -> Dialogue:
    first = rng.choice((_count, _exists, _is_it, _count_all))(scene, rng) or [COUNT_ALL]
    return [*first, WHAT]


def _count_then_colour(scene: Scene, rng: random.Random) -> Dialogue | None:
    colour = _colour(scene, rng)
    return [COUNT_ALL, *colour, *([WHAT] if rng.random() < 0.3 else [])] if colour else None


def _number_of(kind: str, scene: Scene) -> int:
    return len(referents(Question("", "count", kind), scene))


def _kind(scene: Scene, rng: random.Random, *, is_present: bool) -> str | None:
    """A kind or a general name that the scene shows, or does not show; None if no clear one is found.

    It is drawn several times, since otherwise the answer no would be rarer than yes: more names of absent things are
    doubtful.
    """
    draws = (_present(scene, rng) if is_present else _absent(scene, rng) for _ in range(ATTEMPTS))
    return next(filter(None, draws), None)


def _present(scene: Scene, rng: random.Random) -> str | None:
    """A kind of object in the scene, or a general name of it; of an out-of-distribution image any kind."""
    if not scene.objects:
        return rng.choice(NAMES) if rng.random() >= GENERAL_SHARE else sample_general_name(rng)
    kinds = [obj.kind for obj in scene.objects]
    several = [name for name in general_names() if len(members(name) & set(kinds)) > 1]
    several = [name for name in several if not is_doubtful(name, kinds)]
    if several and rng.random() < SEVERAL_SHARE:
        return rng.choice(several)
    kind = rng.choice(kinds)
    if kind in SHAPES:
        return kind if rng.random() < SHAPE_SHARE else None
    names = [name for name, general in general_names().items() if kind in general.members]
    names = [name for name in names if not is_doubtful(name, kinds)]
    if names and rng.random() < GENERAL_SHARE:
        return rng.choice(names)
    return None if is_doubtful(kind, kinds) else kind


def _absent(scene: Scene, rng: random.Random) -> str | None:
    """A kind or a general name of no object in the scene; often one that is like a kind in the scene."""
    kinds = {obj.kind for obj in scene.objects}
    other_shapes = [shape for shape in SHAPES if shape not in kinds]
    if len(other_shapes) < len(SHAPES) and rng.random() < SHAPE_SHARE:
        return rng.choice(other_shapes) if other_shapes else None
    kind = _random_kind(kinds, rng)
    is_unclear = members(kind) & kinds or is_doubtful(kind, kinds) or (kinds & set(SHAPES) and kind in SHAPE_WORDS)
    return None if is_unclear else kind


def _random_kind(kinds: set[str], rng: random.Random) -> str:
    """A kind or a general name; often one that is like one of `kinds`: a cat for a dog, a bird for a fish."""
    is_near = rng.random() < NEAR_SHARE
    if rng.random() < GENERAL_SHARE:
        near_names = [name for name in general_names() if kinds & set(near_kinds(name))]
        return rng.choice(near_names) if near_names and is_near else sample_general_name(rng)
    like = [name for name, general in general_names().items() if general.members & kinds]
    return rng.choice(sorted(members(rng.choice(like)))) if like and is_near else rng.choice(NAMES)


_SHORT: dict[Sampler, float] = {
    _count: 40,
    _count_all: 12,
    _exists: 30,
    _is_it: 24,
    _exists_number: 18,
    _colour: 14,
    _is_colour: 10,
    _colour_of_named: 14,
}
_DIALOGUES: dict[Sampler, float] = {
    _counts: 26,
    _exists_then_exists: 20,
    _exists_then_count: 28,
    _what_then_short: 20,
    _short_then_what: 8,
    _count_then_colour: 14,
    _count_then_among: 22,
    _other_side: 24,
}
