"""Plain questions and dialogues in all eighty languages: as people ask them, about concepts and their general names.

Answers are those of `templates`. A wording's key is `PREFIX` and a key of `lexicon.plain`, or one of `templates`.
Must not import `samples`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from training.lexicon import GRAMMARS, plain
from training.lexicon.lexicon import Lexicon
from training.scenes.colours import COLOURS
from training.scenes.everyday import NAMES
from training.scenes.general_names import general_names, is_doubtful, members
from training.scenes.scene import SHAPES, Scene
from training.tasks import questions, templates
from training.tasks.questions import Question, referents

Dialogue = list[Question]
Sampler = Callable[[Scene, random.Random], Dialogue | None]

PREFIX = "plain "
OWN_SHARE = 0.9
"""How often a question in a language with plain nouns uses them; otherwise it uses what every language has."""

GENERAL_SHARE, NEAR_SHARE, SHAPE_SHARE = 0.5, 0.5, 0.7
"""The probabilities that a question uses a general name, that an absent kind has a general name in common with a kind
in the image, and that a question about flat shapes names a shape."""

WHAT, COUNT_ALL, HOW_MANY = (
    Question(PREFIX + key, kind) for key, kind in (("what", "what"), ("count_all", "count"), ("how_many", "count"))
)
SHAPE_WORDS = frozenset(("ball", "soccer ball", "package", "full moon", "sun", "broken heart", "gem stone", "game die"))
"""Kinds of which people might say that a flat shape is one."""

FALLBACKS = {
    "count": "count_of",
    "count_all": "count",
    "and_count": "and_of",
    "and_exists": "and_of",
    "is_it": "exists",
    "colour_it": "colour",
    "colour_they": "colour",
    "among": "and_of",
    "left_of_it": "and_left",
    "right_of_it": "and_right",
}
"""The key of a template with the same meaning, by the key of a plain wording, if the keys differ."""

COLOUR_WORDINGS = {"colour_the": "colour_the", "colour_left": "colour_side", "colour_right": "colour_side"}
"""The key of a wording in the grammars, which all have the colour of a named shape."""

ENGLISH_ONLY = ("exists_number", "is_colour", "other_side")


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


def render_plain_question(question: Question, lexicon: Lexicon, rng: random.Random) -> str:
    """The question in the lexicon's language, in a random plain wording."""
    key = question.wording.removeprefix(PREFIX)
    if key in COLOUR_WORDINGS and lexicon.code in GRAMMARS:
        grammatical = replace(question, wording=COLOUR_WORDINGS[key])
        return questions.render_question(grammatical, GRAMMARS[lexicon.code], rng)
    own = plain.wordings().get(lexicon.code, {}).get(key)
    if own and (key in ENGLISH_ONLY or key in COLOUR_WORDINGS or rng.random() < OWN_SHARE):
        text = _own_wording(question, rng.choice(own), lexicon, rng)
        if text:
            return text
    return rng.choice(list(_generic_wordings(key, lexicon))).format(name=_name(question, lexicon))


def _own_wording(question: Question, wording: str, lexicon: Lexicon, rng: random.Random) -> str | None:
    """The wording with the forms of the question's noun; None if the language has no noun for it."""
    words: dict[str, str] = {"m": rng.choice(plain.MEASURE_WORDS)}
    if question.kind and "{" in wording:
        forms = _forms(question.kind, lexicon, rng)
        if forms is None:
            return None
        words |= forms
    if question.colour:
        words["colour"] = lexicon.colours[question.colour]
    if question.number is not None:
        words["number"] = rng.choice((lexicon.numbers[question.number], str(question.number)))
    try:
        return wording.format(**words)
    except KeyError:  # the shapes' grammar has fewer forms than the nouns
        return None


def _forms(kind: str, lexicon: Lexicon, rng: random.Random) -> plain.Forms | None:
    if kind in SHAPES and lexicon.code == "sw":
        return {"one": lexicon.shapes[kind]}
    if kind in SHAPES:
        return GRAMMARS[lexicon.code].noun_forms(kind, None) if lexicon.code in ("en", "de") else None
    forms = plain.noun_forms(lexicon.code, kind, rng)
    if not forms and lexicon.code in ("ja", "zh") and kind in lexicon.names.by_key:
        return {"one": lexicon.name_of(kind)}
    return forms


def _generic_wordings(key: str, lexicon: Lexicon) -> Iterator[str]:
    """Wordings that every language has, which take a name in its dictionary form."""
    words = plain.plain_words()[lexicon.code]
    short = {"how_many": words.how_many, "count_all": words.how_many, "is_it": words.is_it, "exists": words.exists}
    if key in short:
        yield from (short[key],) * 2
    if key != "how_many":  # the templates count everything, but it refers to what was named before
        yield from lexicon.questions[FALLBACKS.get(key, key)]


def _name(question: Question, lexicon: Lexicon) -> str:
    kind = question.kind or ""
    general = plain.plain_words()[lexicon.code].general
    if kind in general:
        return general[kind]
    if kind in general_names() and kind not in NAMES:
        return kind if lexicon.code == "en" else plain.nouns(lexicon.code)[kind][0]["one"]
    return lexicon.name_of(kind) if kind else ""


def needs_english(question: Question, lexicon: Lexicon) -> bool:
    """Whether the language has no words for the question, or no name for its objects."""
    key = question.wording.removeprefix(PREFIX)
    if key in COLOUR_WORDINGS:
        return lexicon.code not in GRAMMARS and key not in plain.wordings().get(lexicon.code, {})
    if key in ENGLISH_ONLY:
        has_noun = not question.kind or question.kind in plain.nouns(lexicon.code)
        return lexicon.code not in plain.wordings() or not has_noun
    is_general = question.kind in general_names() and question.kind not in NAMES
    if not is_general or question.kind in plain.plain_words()[lexicon.code].general:
        return False
    return question.kind not in plain.nouns(lexicon.code) and lexicon.code != "en"


def _count(scene: Scene, rng: random.Random) -> Dialogue | None:
    kind = _present(scene, rng) if rng.random() < 0.8 else _absent(scene, rng)
    return [Question(PREFIX + "count", "count", kind)] if kind else None


def _count_all(_: Scene, __: random.Random) -> Dialogue:
    return [COUNT_ALL]


def _exists(scene: Scene, rng: random.Random) -> Dialogue | None:
    kind = _present(scene, rng) if rng.random() < 0.5 else _absent(scene, rng)
    return [Question(PREFIX + "exists", "exists", kind)] if kind else None


def _is_it(scene: Scene, rng: random.Random) -> Dialogue | None:
    if len({obj.kind for obj in scene.objects}) > 1:
        return None
    kind = _present(scene, rng) if rng.random() < 0.5 else _absent(scene, rng)
    return [Question(PREFIX + "is_it", "exists", kind)] if kind else None


def _exists_number(scene: Scene, rng: random.Random) -> Dialogue | None:
    """Whether there are two or more objects of a kind; half the time the number is right."""
    kind = _present(scene, rng)
    if not kind or scene.photograph or scene.ood_kind:
        return None
    count = len(referents(Question("", "count", kind), scene))
    wrong = [number for number in range(2, 7) if number != count]
    number = count if count > 1 and rng.random() < 0.6 else rng.choice(wrong)
    return [Question(PREFIX + "exists_number", "exists", kind, number=number)]


def _colour(scene: Scene, _: random.Random) -> Dialogue | None:
    if scene.photograph or scene.ood_kind:
        return [Question(PREFIX + "colour_it", "colour")]
    if not scene.flat or len({obj.colour for obj in scene.objects}) > 1:
        return None
    return [Question(PREFIX + ("colour_it" if len(scene.objects) == 1 else "colour_they"), "colour")]


def _of_group(scene: Scene, rng: random.Random) -> Dialogue | None:
    """A question about a general name of which the image shows several kinds."""
    kinds = [obj.kind for obj in scene.objects]
    names = [name for name, general in general_names().items() if len(general.members & set(kinds)) > 1]
    names = [name for name in names if not is_doubtful(name, kinds)]
    if not names:
        return None
    answer_type = rng.choice(("count", "count", "exists"))
    return [Question(PREFIX + answer_type, answer_type, rng.choice(names))]


def _is_colour(scene: Scene, rng: random.Random) -> Dialogue | None:
    if not scene.flat or len({obj.colour for obj in scene.objects}) > 1:
        return None
    colour = scene.objects[0].colour if rng.random() < 0.5 else rng.choice(COLOURS)
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
    names = [name for name in general_names() if referents(Question("", "count", name), scene)]
    names = [name for name in names if not is_doubtful(name, [obj.kind for obj in scene.objects])]
    if not names:
        return None
    name = rng.choice(names)
    present = sorted({obj.kind for obj in referents(Question("", "count", name), scene)})
    absent = sorted(members(name) - set(present))
    kind = rng.choice(absent if absent and rng.random() < 0.5 else present)
    if is_doubtful(kind, [obj.kind for obj in scene.objects]):
        return None
    return [Question(PREFIX + "count", "count", name), Question(PREFIX + "among", "exists", kind)]


def _other_side(scene: Scene, rng: random.Random) -> Dialogue | None:
    """What is on the left? And on the other side?"""
    if scene.photograph or scene.ood_kind or not (scene.at("left") and scene.at("right")):
        return None
    first, second = rng.sample(("left", "right"), 2)
    wording = f"{second}_of_it" if len(scene.objects) == 2 and rng.random() < 0.5 else "other_side"
    dialogue = [Question(first, "what", side=first), Question(PREFIX + wording, "what", side=second)]
    if scene.flat and rng.random() < 0.3:
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
    kind = _present(scene, rng)
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
    return [COUNT_ALL, *colour, *_what_or_none(rng)] if colour else None


def _what_or_none(rng: random.Random) -> Dialogue:
    return [WHAT] if rng.random() < 0.3 else []


def _present(scene: Scene, rng: random.Random) -> str | None:
    """A kind of object in the scene, or a general name of it; of an out-of-distribution image any kind."""
    if not scene.objects:
        return rng.choice(NAMES)
    kind = rng.choice(scene.objects).kind
    if kind in SHAPES:
        return kind if rng.random() < SHAPE_SHARE else None
    kinds = [obj.kind for obj in scene.objects]
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
    if rng.random() < GENERAL_SHARE:
        kind = rng.choice(list(general_names()))
    else:
        like = [name for name, general in general_names().items() if general.members & kinds]
        is_near = like and rng.random() < NEAR_SHARE
        kind = rng.choice(sorted(members(rng.choice(like)))) if is_near else rng.choice(NAMES)
    is_unclear = members(kind) & kinds or is_doubtful(kind, kinds) or (kinds & set(SHAPES) and kind in SHAPE_WORDS)
    return None if is_unclear else kind


_SHORT: dict[Sampler, float] = {
    _count: 26,
    _count_all: 12,
    _exists: 30,
    _is_it: 20,
    _exists_number: 8,
    _colour: 14,
    _is_colour: 10,
    _of_group: 300,
    _colour_of_named: 12,
}
_DIALOGUES: dict[Sampler, float] = {
    _counts: 20,
    _exists_then_exists: 20,
    _exists_then_count: 22,
    _what_then_short: 26,
    _short_then_what: 12,
    _count_then_colour: 16,
    _count_then_among: 12,
    _other_side: 22,
}
