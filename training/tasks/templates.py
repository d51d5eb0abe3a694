"""Questions and answers from templates, in all eighty languages.

Used instead of `dialogues` and `questions` for languages without a grammar, and in every language for everyday objects.
Must not import `samples`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from training.lexicon import GRAMMARS, english_nouns
from training.lexicon.lexicon import Lexicon
from training.scenes.everyday import NAMES
from training.scenes.scene import SHAPES, Scene, SceneObject
from training.tasks.questions import Question, fill_template, is_true, referents

Dialogue = list[Question]
Sampler = Callable[[Scene, random.Random], Dialogue | None]
Weights = dict[Sampler, float]

SIDES = ("left", "right", "middle")
ENGLISH_SIDES = ("top", "bottom")
"""The sides for which the tables have no words; questions about them are in English, even if the answer is not."""

WHAT, CAPTION, COUNT = Question("what", "what"), Question("caption", "what"), Question("count", "count")
COLOUR, SHAPE = Question("colour", "colour"), Question("shape", "shape")

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
"""The key of a wording in the English grammar, by the key of the template with the same meaning, if the keys differ."""

ENGLISH_THINGS = (
    {"one": "thing", "a": "a thing", "many": "things"},
    {"one": "object", "a": "an object", "many": "objects"},
)
TEMPLATE_SHARE = 0.25
"""How often a question in English uses a template instead of the English grammar."""


def answer(question: Question, scene: Scene, lexicon: Lexicon) -> str:
    """The correct answer in the words of `lexicon`. For an out-of-distribution image it is `lexicon.unknown`, and for a
    question about a photograph that asks for more than a name, `lexicon.photograph`."""
    if scene.ood_kind:
        return lexicon.unknown
    if scene.photograph and (question.side or question.answer_type not in ("what", "exists")):
        return lexicon.photograph
    objects = referents(question, scene)
    if question.answer_type == "count":
        return lexicon.numbers[len(objects)]
    if question.answer_type == "exists":
        return lexicon.yes if is_true(question, len(objects)) else lexicon.no
    if not objects:
        return lexicon.nothing
    if question.answer_type == "colour":
        return lexicon.join([lexicon.colours[name] for name in dict.fromkeys(obj.colour for obj in objects) if name])
    return list_objects(objects, lexicon)


def list_objects(objects: tuple[SceneObject, ...], lexicon: Lexicon) -> str:
    """The names of the objects: each kind with its count, in the order of their first objects."""
    kinds = Counter(obj.kind for obj in objects)
    return lexicon.join([lexicon.count_phrase(kind, count) for kind, count in kinds.items()])


def render_question(question: Question, lexicon: Lexicon, rng: random.Random) -> str:
    """The question in the lexicon's language, in a random wording."""
    has_grammar = lexicon.code == "en" and question.wording != "else"
    if has_grammar and (needs_english(question) or rng.random() >= TEMPLATE_SHARE):
        return _english(question, rng)
    name = lexicon.name_of(question.kind) if question.kind else ""
    return rng.choice(lexicon.questions[question.wording]).format(name=name)


def needs_english(question: Question) -> bool:
    """Whether only English has words for the question."""
    return question.wording in ENGLISH_SIDES


def _english(question: Question, rng: random.Random) -> str:
    """The question in natural English, with articles and plurals."""
    grammar = GRAMMARS["en"]
    wording = ENGLISH.get(question.wording, question.wording)
    if question.answer_type == "exists" and question.wording == "and_of":
        wording = "and_a"
    english, kind = replace(question, wording=wording), question.kind
    if kind in SHAPES:
        return fill_template(english, grammar, grammar.noun_forms(rng.choice(grammar.synonyms[kind]), None), rng)
    noun = english_nouns.noun_forms(kind) if kind else rng.choice(ENGLISH_THINGS)
    return fill_template(english, grammar, noun, rng)


def sample_question(scene: Scene, rng: random.Random, *, length: str) -> Question:
    """A random question that needs no earlier turn. It asks for a caption if `length` is "long", but not if "short"."""
    weights = {"long": _LONG, "short": _SHORT}.get(length, {**_LONG, **_SHORT})
    return _sample_by_weight(weights, scene, rng)[0]


def sample_dialogue(scene: Scene, rng: random.Random) -> Dialogue:
    """A random dialogue of two to four questions, of which the newest usually depends on the earlier ones."""
    dialogue = _sample_by_weight(_DIALOGUES, scene, rng)
    return dialogue[: rng.randint(2, len(dialogue))]


def _sample_by_weight(weights: Weights, scene: Scene, rng: random.Random) -> Dialogue:
    while True:
        dialogue = rng.choices(list(weights), list(weights.values()))[0](scene, rng)
        if dialogue:
            return dialogue


def off_topic(rng: random.Random) -> Question:
    """A random question about an everyday object, whether or not the image shows one."""
    exists, count = (Question(*keys, rng.choice(NAMES)) for keys in (("exists", "exists"), ("count_of", "count")))
    return rng.choice((exists, count))


def _ask_what(_: Scene, rng: random.Random) -> Dialogue:
    return [rng.choice((WHAT, WHAT, CAPTION))]


def _ask_count(_: Scene, __: random.Random) -> Dialogue:
    return [COUNT]


def _ask_count_of(scene: Scene, rng: random.Random) -> Dialogue:
    return [Question("count_of", "count", _maybe_present(scene, rng))]


def _ask_exists(scene: Scene, rng: random.Random) -> Dialogue:
    return [Question("exists", "exists", _maybe_present(scene, rng))]


def _ask_side(scene: Scene, rng: random.Random) -> Dialogue | None:
    sides = _answerable_sides(scene, (*SIDES, *SIDES, *ENGLISH_SIDES))
    return [_at_side(rng.choice(sides))] if sides else None


def _ask_colour(scene: Scene, _: random.Random) -> Dialogue | None:
    is_answerable = scene.ood_kind or scene.photograph
    return [COLOUR] if is_answerable or (scene.flat and len({obj.colour for obj in scene.objects}) == 1) else None


def _ask_shape(scene: Scene, _: random.Random) -> Dialogue | None:
    return [SHAPE] if scene.flat and len(scene.kinds()) == 1 else None


def _sides_dialogue(scene: Scene, rng: random.Random) -> Dialogue | None:
    sides = _answerable_sides(scene)
    rng.shuffle(sides)
    if not sides:
        return None
    side = sides[0]
    dialogue, first_object = [_at_side(side)], scene.at(side)
    if scene.flat and rng.random() < 0.6:
        dialogue.append(rng.choice((replace(COLOUR, side=side), replace(SHAPE, side=side))))
    others = [side for side in sides[1:] if side != "middle"]
    if others and rng.random() < 0.7:
        dialogue.append(Question(f"and_{others[0]}", "what", side=others[0]))
        if scene.flat:
            dialogue.append(Question("colour", "colour", side=others[0]))
    elif first_object:
        dialogue.append(Question("else", "else", first_object.kind))
    return dialogue if len(dialogue) > 1 else None


def _several_counts(scene: Scene, rng: random.Random) -> Dialogue:
    return [*_ask_count_of(scene, rng), *(Question("and_of", "count", _maybe_present(scene, rng)) for _ in range(2))]


def _several_exists(scene: Scene, rng: random.Random) -> Dialogue:
    kind = _maybe_present(scene, rng)
    dialogue = [Question("exists", "exists", kind)]
    if scene.count(kind) and rng.random() < 0.4:
        return [*dialogue, Question("else", "else", kind)]
    return [*dialogue, Question("and_of", "exists", _maybe_present(scene, rng)), _ask_count_of(scene, rng)[0]]


def _what_then(scene: Scene, rng: random.Random) -> Dialogue:
    later = [COUNT, _ask_count_of(scene, rng)[0], _ask_exists(scene, rng)[0], *(_ask_colour(scene, rng) or ()), WHAT]
    return [rng.choice((WHAT, CAPTION)), *rng.sample(later, 2)]


def _unrelated(scene: Scene, rng: random.Random) -> Dialogue:
    return [sample_question(scene, rng, length=rng.choice(("short", "long"))) for _ in range(2)]


def _at_side(side: str) -> Question:
    return Question(side, "what", side=side)


def _answerable_sides(scene: Scene, sides: Sequence[str] = SIDES) -> list[str]:
    return [side for side in sides if scene.ood_kind or scene.photograph or scene.at(side)]


def _maybe_present(scene: Scene, rng: random.Random) -> str:
    """A random kind of object; half the time it is that of an object in the scene."""
    if scene.objects and rng.random() < 0.5:
        return rng.choice(scene.objects).kind
    return rng.choice(SHAPES if scene.flat and rng.random() < 0.8 else NAMES)


_LONG: Weights = {_ask_what: 1}
_SHORT: Weights = {_ask_count: 14, _ask_count_of: 20, _ask_exists: 28, _ask_side: 26, _ask_colour: 8, _ask_shape: 4}
_DIALOGUES: Weights = {_sides_dialogue: 40, _several_counts: 16, _several_exists: 16, _what_then: 16, _unrelated: 12}
