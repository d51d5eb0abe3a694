"""Samples dialogues about a scene of flat shapes: sequences of questions, the newest last.

Defines the questions, and which of them may follow which. Must not import `lexicon` or `samples`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from training.scenes.colours import COLOURS
from training.scenes.scene import SHAPES, SIDES, Scene
from training.tasks.questions import Question

CAPTION = Question("caption", "what")
Dialogue = list[Question]
Target = tuple[str | None, str | None]  # a shape and a colour
AnswerLength = Literal["any", "short", "long"]


def sample_question(scene: Scene, rng: random.Random, *, length: AnswerLength = "any") -> Question:
    """A random question that needs no earlier turn. It asks for a caption if `length` is "long", but not if "short"."""
    samplers = [one for one in _QUESTION_WEIGHTS if length == "any" or (one in _LONG_ANSWERS) == (length == "long")]
    while True:
        question = rng.choices(samplers, [_QUESTION_WEIGHTS[one] for one in samplers])[0](scene, rng)
        if question:
            return question


def sample_dialogue(scene: Scene, rng: random.Random) -> Dialogue:
    """A random dialogue of two to four questions, of which the newest usually depends on the earlier ones."""
    while True:
        dialogue = rng.choices(list(_DIALOGUE_WEIGHTS), list(_DIALOGUE_WEIGHTS.values()))[0](scene, rng)
        if len(dialogue) > 1:
            return dialogue[: rng.randint(2, len(dialogue))]


def _count_question(scene: Scene, rng: random.Random) -> Question:
    return Question("count", "count", *_sample_target(scene, rng, present_share=0.7))


def _exists_question(scene: Scene, rng: random.Random) -> Question:
    return Question("exists", "exists", *_maybe_present(scene, rng))


def _colour_question(scene: Scene, rng: random.Random) -> Question | None:
    """A question about the colour of all objects, or of all objects of one shape."""
    shape = rng.choice([None, *{obj.kind for obj in scene.objects}])
    total, colours = scene.count(shape), {t.colour for t in scene.objects if shape in (None, t.kind)}
    if total == 1:
        return Question("colour_the" if shape or rng.random() < 0.3 else "colour_it", "colour", shape)
    if len(colours) == 1 and rng.random() < 0.1:
        return Question("colour_the" if shape else "colour_it", "colour", shape)
    if not shape:
        return Question(rng.choice(("colour_they", "colour_the_many")), "colour")
    return Question("colour_the_many", "colour", shape)


def _shape_question(scene: Scene, rng: random.Random) -> Question | None:
    """A question about the shape of all objects, or of the only object of a colour; None if several have the colour."""
    colour = rng.choice([None, None, *{obj.colour for obj in scene.objects}])
    if colour and scene.count(None, colour) != 1:
        return None
    if colour:
        return Question("shape_the", "shape", None, colour)
    return Question("shape_it" if len(scene.objects) < 2 else "shape_they", "shape")


def _what_question(_: Scene, __: random.Random) -> Question:
    return Question("what", "what")


def _caption_question(_: Scene, __: random.Random) -> Question:
    return CAPTION


def _side_question(scene: Scene, rng: random.Random, *, excluded: str | None = None) -> Question | None:
    sides = [side for side in SIDES if side != excluded and (scene.at(side) or not scene.objects)]
    if not sides:
        return None
    pairs = (("side", "what"), ("side", "what"), ("colour_side", "colour"), ("shape_side", "shape"))
    wording, answer_type = rng.choice(pairs)
    return Question(wording, answer_type, side=rng.choice(sides))


def _count_then_looks(scene: Scene, rng: random.Random) -> Dialogue:
    shape, colour = rng.choice(((None, None), (None, None), _sample_target(scene, rng, present_share=1.0)))
    number = scene.count(shape, colour)
    if not number:
        return []
    first = Question("count", "count", shape, colour)
    it_or_they = "it" if number == 1 else "they"
    colour_question = Question(f"colour_{it_or_they}", "colour", shape, colour)
    shape_question = Question(f"shape_{it_or_they}", "shape", shape, colour)
    return [first, *([shape_question, colour_question] if rng.random() < 0.3 else [colour_question, shape_question])]


def _several_counts(scene: Scene, rng: random.Random) -> Dialogue:
    questions = [Question("and_many", "count", *_sample_target(scene, rng, present_share=0.7)) for _ in range(3)]
    first = Question("count", "count", questions[0].kind, questions[0].colour)
    dialogue = [first, *(question for question in questions[1:] if question.kind or question.colour)]
    last = dialogue[-1]
    if scene.count(last.kind, last.colour) > 1:
        dialogue.append(Question("colour_they", "colour", last.kind, last.colour))
    return dialogue


def _sides_dialogue(scene: Scene, rng: random.Random) -> Dialogue:
    first = _side_question(scene, rng)
    if not first or not first.side:
        return []
    side = first.side
    dialogue = [Question("side", "what", side=side)]
    dialogue += rng.choice(
        ([], [], [Question("colour_it", "colour", side=side)], [Question("shape_it", "shape", side=side)])
    )
    second = _side_question(scene, rng, excluded=side)
    if second and second.side:
        side = second.side
        dialogue.append(Question("and_side", "what", side=side))
        dialogue.append(
            rng.choice((Question("colour_it", "colour", side=side), Question("shape_it", "shape", side=side)))
        )
    return dialogue


def _exists_then(scene: Scene, rng: random.Random) -> Dialogue:
    dialogue = [_exists_question(scene, rng)]
    if rng.random() < 0.5:
        dialogue.append(Question("and_a", "exists", *_maybe_present(scene, rng)))
    last = dialogue[-1]
    if scene.count(last.kind, last.colour):
        dialogue.append(Question("how_many", "count", last.kind, last.colour))
    return dialogue


def _what_then(scene: Scene, rng: random.Random) -> Dialogue:
    """A dialogue that begins with a caption or "What is this?" and continues with two other questions."""
    number = len(scene.objects)
    if not number:
        return []
    it_or_they = "it" if number == 1 else "they"
    later = [
        Question(f"colour_{it_or_they}", "colour"),
        Question(f"shape_{it_or_they}", "shape"),
        Question("how_many", "count"),
        _count_question(scene, rng),
    ]
    return [rng.choice((CAPTION, Question("what", "what"))), *rng.sample(later, 2)]


def _unrelated(scene: Scene, rng: random.Random) -> Dialogue:
    return [sample_question(scene, rng) for _ in range(3)]


def _sample_target(scene: Scene, rng: random.Random, *, present_share: float) -> Target:
    """A random shape, colour, both or neither; with probability `present_share` those of an object in the scene."""
    if scene.objects and rng.random() < present_share:
        obj = rng.choice(scene.objects)
        shape, colour = obj.kind, obj.colour
    else:
        shape, colour = rng.choice(SHAPES), rng.choice(COLOURS)
    return rng.choice(((shape, None), (shape, None), (None, colour), (shape, colour), (None, None)))


def _maybe_present(scene: Scene, rng: random.Random) -> Target:
    """A random shape, colour or both: half the time those of an object in the scene, else one or both are replaced."""
    present = sorted({(obj.kind, obj.colour) for obj in scene.objects})
    length = rng.choice(("shape", "colour", "both"))
    shape, colour = rng.choice(present) if present else (rng.choice(SHAPES), rng.choice(COLOURS))
    if rng.random() < 0.5 or not present:
        if length == "shape" or rng.random() < 0.5:
            shape = rng.choice(SHAPES)
        else:
            colour = rng.choice(COLOURS)
        if length == "colour":
            colour = rng.choice(COLOURS)
    return None if length == "colour" else shape, None if length == "shape" else colour


_QUESTION_WEIGHTS: dict[Callable[[Scene, random.Random], Question | None], float] = {
    _count_question: 30,
    _colour_question: 16,
    _shape_question: 9,
    _what_question: 8,
    _caption_question: 11,
    _side_question: 14,
    _exists_question: 14,
}
_LONG_ANSWERS = (_what_question, _caption_question)
_DIALOGUE_WEIGHTS: dict[Callable[[Scene, random.Random], Dialogue], float] = {
    _count_then_looks: 24,
    _several_counts: 16,
    _sides_dialogue: 24,
    _exists_then: 12,
    _what_then: 12,
    _unrelated: 12,
}
