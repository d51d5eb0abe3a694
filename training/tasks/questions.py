"""A question about a scene, its wording in a language with a grammar, and the correct answer.

A `Question` separates meaning from wording, since "And on the right?" means "What is on the right?" only after another
question. Must not import `dialogues` or `samples`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from training.lexicon import Grammar
from training.scenes.general_names import members
from training.scenes.scene import Scene, SceneObject

MAX_KINDS = 4
"""A caption names at most this many kinds of objects; if there are more, it states only the number of objects."""


@dataclass(frozen=True)
class Question:
    """A question: the key of its wordings, and its answer type: count, colour, shape, what, exists or else. It is about
    the objects of `kind` (which may be a general name) and `colour`, or at `side`; with "else", about all objects
    except those of `kind`. With a `number`, "exists" asks whether there are that many."""

    wording: str
    answer_type: str
    kind: str | None = None
    colour: str | None = None
    side: str | None = None
    number: int | None = None


def answer(question: Question, scene: Scene, grammar: Grammar) -> str:
    """The correct answer in the grammar's language. If no object matches, the answer is "nothing", "no" or zero."""
    objects = referents(question, scene)
    if question.answer_type == "count":
        return grammar.numbers[len(objects)]
    if question.answer_type == "exists":
        return grammar.yes if is_true(question, len(objects)) else grammar.no
    if not objects:
        return grammar.nothing
    if question.answer_type == "colour":
        return grammar.join([grammar.colours[name] for name in dict.fromkeys(obj.colour for obj in objects) if name])
    if question.answer_type == "shape":
        return _shape_answer(objects, grammar)
    return list_objects(objects, grammar)


def is_true(question: Question, count: int) -> bool:
    """Whether a question of the type "exists" has the answer yes, if it refers to `count` objects."""
    return count > 0 if question.number is None else count == question.number


def list_objects(objects: tuple[SceneObject, ...], grammar: Grammar) -> str:
    """A caption of the objects: each shape and colour with its count, in the order of their first objects."""
    kinds = Counter((obj.kind, obj.colour) for obj in objects)
    if len(kinds) > MAX_KINDS:
        return grammar.count_phrase(len(objects), None, None)
    return grammar.join([grammar.count_phrase(count, *kind) for kind, count in kinds.items()])


def render_question(question: Question, grammar: Grammar, rng: random.Random) -> str:
    """The question in the grammar's language, in a random wording."""
    noun = rng.choice(grammar.synonyms[question.kind])
    return fill_template(question, grammar, grammar.noun_forms(noun, question.colour), rng)


def fill_template(question: Question, grammar: Grammar, noun: Mapping[str, str], rng: random.Random) -> str:
    """The question in a random wording of the grammar; `noun` has the forms of its noun, by placeholder."""
    side = rng.choice(grammar.sides[question.side]) if question.side else ""
    return rng.choice(grammar.questions[question.wording]).format(**noun, side=side)


def referents(question: Question, scene: Scene) -> tuple[SceneObject, ...]:
    """The objects that the question refers to, in reading order."""
    if question.side:
        obj = scene.at(question.side)
        return (obj,) if obj else ()
    if question.answer_type == "else":
        return tuple(obj for obj in scene.objects if obj.kind != question.kind)
    kinds = members(question.kind) if question.kind else {obj.kind for obj in scene.objects}
    return tuple(obj for obj in scene.objects if obj.kind in kinds and question.colour in (None, obj.colour))


def _shape_answer(objects: tuple[SceneObject, ...], grammar: Grammar) -> str:
    names = Counter(obj.kind for obj in objects)
    if len(names) == 1:
        return grammar.shapes[objects[0].kind][len(objects) > 1]
    return grammar.join([grammar.count_phrase(count, name, None) for name, count in names.items()])
