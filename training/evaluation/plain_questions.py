"""Plain questions, as people word them in nine languages: how many, yes or no, colours, and questions that refer to an
earlier one.

The wordings are in `plain_wordings.json`, ten for each task and language, and training never uses these sentences. All
languages ask about the same images, and half of the questions with yes or no have the answer yes. Must not import
`model`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blip_space.languages import LANGUAGES
from training.evaluation.flat_shapes import SEED, EvalQuestion
from training.evaluation.plain_scenes import (
    GROUPS,
    THINGS,
    everyday_scene,
    flat_scene,
    sample_kinds,
    sample_others,
    two_sided_scene,
)
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicon, Lexicons
from training.scenes.scene import Scene, SceneObject
from training.tasks.samples import build_prompt
from training.tasks.templates import list_objects

WORDINGS = Path(__file__).with_name("plain_wordings.json")
LANGUAGE_CODES = ("en", "de", "fr", "es", "ar", "hi", "ja", "zh", "sw")
HOW_MANY, YES_OR_NO, COLOURS, REFERENCES = PLAIN_TASKS = ("how many", "yes or no", "colours", "references")

Text = Callable[[Lexicon], str]


@dataclass(frozen=True)
class PlainQuestion:
    """A question about a scene in every language: its wordings, the text of an earlier question with its answer (None
    if there is none), and the correct answer, both as functions of the language's lexicon."""

    task: str
    scene: Scene
    wordings: Mapping[str, str]
    answer: Text
    first: Mapping[str, str] | None = None
    first_answer: Text | None = None


def load_wordings() -> dict[str, list[dict[str, Any]]]:
    """The wordings of each task, ten entries each."""
    wordings: dict[str, list[dict[str, Any]]] = json.loads(WORDINGS.read_text(encoding="utf-8"))
    return wordings


def held_out_sentences() -> frozenset[str]:
    """Every sentence of the evaluation that no training sample may have as its newest question."""
    entries = (entry for entries in load_wordings().values() for entry in entries)
    return frozenset(sentence for entry in entries for sentence in entry["wordings"].values())


def plain_questions(each: int, *, seed: int = SEED) -> list[PlainQuestion]:
    """`each` questions, an even number, for each entry of the file of wordings, about scenes of their own."""
    questions = []
    for task, entries in load_wordings().items():
        for number, entry in enumerate(entries):
            for index in range(each):
                rng = random.Random(f"plain questions/{seed}/{task}/{number}/{index}")
                questions.append(_SAMPLERS[task](entry, rng, index % 2 == 0))
    return questions


def as_eval_questions(
    questions: Sequence[PlainQuestion], lexicons: Lexicons, codes: Sequence[str] = LANGUAGE_CODES
) -> list[EvalQuestion]:
    """Every question in each language of `codes`, with the prompt that serving builds; images have the same order."""
    return [
        _eval_question(question, index, lexicons[code], code)
        for code in codes
        for index, question in enumerate(questions)
    ]


def _eval_question(question: PlainQuestion, index: int, lexicon: Lexicon, code: str) -> EvalQuestion:
    turns = []
    if question.first and question.first_answer:
        turns.append((question.first[code], question.first_answer(lexicon)))
    prompt = build_prompt(turns, question.wordings[code], LANGUAGES[code])
    return EvalQuestion(question.task, code, index, prompt, question.answer(lexicon))


def _how_many(entry: Mapping[str, Any], rng: random.Random, _: bool) -> PlainQuestion:
    about = entry["about"]
    if about == "anything":
        wanted = [rng.choice((*GROUPS["animals"], *THINGS)) for _ in range(rng.randint(1, 4))]
        return _counted(entry, everyday_scene(wanted, rng), len(wanted))
    if about == "one kind":
        wanted = [rng.choice((*GROUPS["animals"], *THINGS))] * rng.randint(1, 4)
        return _counted(entry, everyday_scene(wanted, rng), len(wanted))
    wanted = sample_kinds(about, rng.randint(1, 4), rng)
    others = sample_others(about, rng.randint(0, min(2, 5 - len(wanted))), rng)
    return _counted(entry, everyday_scene(wanted + others, rng), len(wanted))


def _counted(entry: Mapping[str, Any], scene: Scene, count: int) -> PlainQuestion:
    return PlainQuestion(HOW_MANY, scene, entry["wordings"], lambda lexicon: lexicon.numbers[count])


def _yes_or_no(entry: Mapping[str, Any], rng: random.Random, is_yes: bool) -> PlainQuestion:
    about, form = entry["about"], entry.get("form")
    if form == "alone":
        kinds = sample_kinds(about, 1, rng) if is_yes else sample_others(about, 1, rng)
    elif form == "two":
        number = 2 if is_yes else rng.choice((0, 1, 3))
        kinds = sample_kinds(about, number, rng) + sample_others(about, rng.randint(not number, 2), rng)
    else:
        kinds = sample_kinds(about, rng.randint(1, 3) if is_yes else 0, rng)
        kinds += sample_others(about, rng.randint(0 if is_yes else 1, 2), rng)
    return PlainQuestion(YES_OR_NO, everyday_scene(kinds, rng), entry["wordings"], _yes if is_yes else _no)


def _colours(entry: Mapping[str, Any], rng: random.Random, _: bool) -> PlainQuestion:
    side = entry.get("side")
    scene = flat_scene(2 if side else 1, entry.get("shape"), rng)
    target = scene.at(side) if side else scene.objects[0]
    return PlainQuestion(COLOURS, scene, entry["wordings"], _colour_of(target))


def _references(entry: Mapping[str, Any], rng: random.Random, is_yes: bool) -> PlainQuestion:
    scene, first_answer, answer = _DIALOGUES[entry["dialogue"]](rng, is_yes)
    return PlainQuestion(REFERENCES, scene, entry["wordings"], answer, entry["first"], first_answer)


def _other_side_dialogue(rng: random.Random, _: bool) -> tuple[Scene, Text, Text]:
    scene = two_sided_scene(rng)
    return scene, _name_at(scene, "left"), _name_at(scene, "right")


def _left_of_it_dialogue(rng: random.Random, _: bool) -> tuple[Scene, Text, Text]:
    scene = two_sided_scene(rng)
    return scene, _name_at(scene, "right"), _name_at(scene, "left")


def _cats_dialogue(rng: random.Random, _: bool) -> tuple[Scene, Text, Text]:
    number = rng.randint(1, 3)
    return everyday_scene(["cat"] * number + sample_others(["cat"], rng.randint(0, 2), rng), rng), _yes, _number(number)


def _and_cats_dialogue(rng: random.Random, _: bool) -> tuple[Scene, Text, Text]:
    dogs, cats = rng.randint(1, 2), rng.randint(0, 3)
    return everyday_scene(["dog"] * dogs + ["cat"] * cats, rng), _number(dogs), _number(cats)


def _cat_too_dialogue(rng: random.Random, is_yes: bool) -> tuple[Scene, Text, Text]:
    other = "cat" if is_yes else rng.choice(THINGS)
    return everyday_scene(["dog", other], rng), _yes, _yes if is_yes else _no


def _among_dialogue(rng: random.Random, is_yes: bool) -> tuple[Scene, Text, Text]:
    animals = [kind for kind in GROUPS["animals"] if kind != "dog"]
    kinds = [*rng.sample(animals, rng.randint(1, 2)), "dog" if is_yes else rng.choice(animals)]
    return everyday_scene(kinds, rng), _number(len(kinds)), _yes if is_yes else _no


def _what_dialogue(rng: random.Random, _: bool) -> tuple[Scene, Text, Text]:
    scene = everyday_scene([rng.choice((*GROUPS["animals"], *THINGS))] * rng.randint(1, 4), rng)
    return scene, lambda lexicon: list_objects(scene.objects, lexicon), _number(len(scene.objects))


def _shape_dialogue(rng: random.Random, _: bool) -> tuple[Scene, Text, Text]:
    scene = flat_scene(1, None, rng)
    return scene, lambda lexicon: lexicon.name_of(scene.objects[0].kind), _colour_of(scene.objects[0])


def _right_colour_dialogue(rng: random.Random, _: bool) -> tuple[Scene, Text, Text]:
    scene = flat_scene(2, None, rng)
    return scene, _name_at(scene, "right"), _colour_of(scene.at("right"))


def _star_dialogue(rng: random.Random, _: bool) -> tuple[Scene, Text, Text]:
    scene = flat_scene(1, "star", rng)
    return scene, _yes, _colour_of(scene.objects[0])


_DIALOGUES: dict[str, Callable[[random.Random, bool], tuple[Scene, Text, Text]]] = {
    "other side": _other_side_dialogue,
    "how many cats": _cats_dialogue,
    "its colour": _shape_dialogue,
    "and cats": _and_cats_dialogue,
    "a cat too": _cat_too_dialogue,
    "colour at right": _right_colour_dialogue,
    "how many of those": _what_dialogue,
    "left of it": _left_of_it_dialogue,
    "dog among them": _among_dialogue,
    "colour of star": _star_dialogue,
}


def _yes(lexicon: Lexicon) -> str:
    return lexicon.yes


def _no(lexicon: Lexicon) -> str:
    return lexicon.no


def _number(count: int) -> Text:
    return lambda lexicon: lexicon.numbers[count]


def _colour_of(obj: SceneObject | None) -> Text:
    colour = obj.colour if obj and obj.colour else ""
    return lambda lexicon: lexicon.colours[colour]


def _name_at(scene: Scene, side: str) -> Text:
    obj = scene.at(side)
    kind, colour = (obj.kind, obj.colour) if obj else ("", None)
    return lambda lexicon: (
        GRAMMARS[lexicon.code].count_phrase(1, kind, colour)
        if colour and lexicon.code in GRAMMARS
        else lexicon.name_of(kind)
    )


_SAMPLERS: dict[str, Callable[[Mapping[str, Any], random.Random, bool], PlainQuestion]] = {
    HOW_MANY: _how_many,
    YES_OR_NO: _yes_or_no,
    COLOURS: _colours,
    REFERENCES: _references,
}
