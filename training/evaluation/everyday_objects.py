"""The exam on everyday things: which scenes, which questions in each of the eighty languages, and their right answers.

Questions are asked half in English and half in the answer's own language. Knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from blip_space.languages import LANGUAGES
from training.evaluation.flat_shapes import SEED, EvalQuestion
from training.lexicon.lexicon import Lexicon
from training.scenes import everyday
from training.scenes.mixture import ood_scene
from training.scenes.scene import Scene
from training.tasks import templates
from training.tasks.questions import Question
from training.tasks.samples import build_prompt
from training.tasks.templates import CAPTION, COUNT, WHAT

Dialogue = Sequence[Question]

NAME = "name of one thing"
FALSELY = "falsely “I don't know” (fewer are better)"
UNKNOWN = "“I don't know”: "


@dataclass(frozen=True)
class Task:
    """A kind of question: on scenes of so many things, and what is asked of each."""

    numbers: tuple[int, ...]
    dialogue: Callable[[Scene, random.Random], Dialogue | None]


def _at(side: str) -> Question:
    return Question(side, "what", side=side)


def _kind(scene: Scene, rng: random.Random) -> str:
    """A kind, as often in the scene as not."""
    return rng.choice(scene.objects).kind if rng.random() < 0.5 else rng.choice(everyday.NAMES)


def _side(scene: Scene, rng: random.Random) -> Dialogue | None:
    known = [side for side in ("left", "right") if scene.at(side)]
    return [_at(rng.choice(known))] if known else None


def _second_turn(scene: Scene, rng: random.Random) -> Dialogue | None:
    if scene.at("left") and scene.at("right") and rng.random() < 0.5:
        one, other = rng.sample(("left", "right"), 2)
        return [_at(one), Question(f"and_{other}", "what", side=other)]
    first, second = rng.choice(scene.objects).kind, _kind(scene, rng)
    answer_type, wording = rng.choice((("count", "count_of"), ("exists", "exists")))
    return [Question(wording, answer_type, first), Question("and_of", answer_type, second)]


TASKS: dict[str, Task] = {
    NAME: Task((1,), lambda _, __: [WHAT]),
    "caption of two": Task((2,), lambda _, __: [CAPTION]),
    "caption of three or four": Task((3, 4), lambda _, __: [CAPTION]),
    "how many (1–4)": Task((1, 2, 3, 4), lambda _, __: [COUNT]),
    "how many of a kind": Task((1, 2, 3, 4), lambda s, d: [Question("count_of", "count", d.choice(s.objects).kind)]),
    "is there a …": Task((1, 2, 3, 4), lambda s, d: [Question("exists", "exists", _kind(s, d))]),
    "left / right": Task((2, 3, 4), _side),
    "second turn that needs the first": Task((2, 3, 4), _second_turn),
}


def scenes(numbers: Sequence[int], count: int, *, seed: int = SEED) -> list[Scene]:
    """Fresh scenes of everyday things."""
    return [
        everyday.sample_everyday_scene(random.Random(f"examination/{seed}/{numbers}/{index}"), numbers=tuple(numbers))
        for index in range(count)
    ]


def strangers(sort: str, count: int) -> list[Scene]:
    """Scenes of nothing that the world knows."""
    return [ood_scene(sort) for _ in range(count)]


def sheet(
    task: str,
    shown: Sequence[Scene],
    lexicons: Mapping[str, Lexicon],
    codes: Sequence[str],
    *,
    each: int,
    seed: int = SEED,
) -> list[EvalQuestion]:
    """`each` questions of the task in every one of these languages, on the scenes that suit it."""
    rng = random.Random(f"everyday-sheet/{seed}/{task}")
    questions = []
    for code in codes:
        picked: list[EvalQuestion] = []
        for picture in rng.sample(range(len(shown)), len(shown)):
            dialogue = TASKS[task].dialogue(shown[picture], rng) if len(picked) < each else None
            if dialogue:
                picked.append(question(task, lexicons[code], picture, dialogue, shown[picture], lexicons, rng))
        questions += picked
    return questions


def unknown_sheet(
    task: str, count: int, lexicons: Mapping[str, Lexicon], codes: Sequence[str], *, seed: int = SEED
) -> list[EvalQuestion]:
    """A question about each of `count` strange pictures, in these languages by turns."""
    rng = random.Random(f"unknown-sheet/{seed}/{task}")
    questions = (WHAT, WHAT, CAPTION, COUNT, Question("exists", "exists", rng.choice(everyday.NAMES)), _at("left"))
    nothing = ood_scene("photo")
    return [
        question(task, lexicons[codes[i % len(codes)]], i, [rng.choice(questions)], nothing, lexicons, rng)
        for i in range(count)
    ]


def question(
    task: str,
    lexicon: Lexicon,
    picture: int,
    dialogue: Dialogue,
    scene: Scene,
    lexicons: Mapping[str, Lexicon],
    rng: random.Random,
) -> EvalQuestion:
    """The last question of the talk, put as serving would put it after the turns before."""
    asking = rng.choice((lexicon, lexicons["en"]))
    worded = [
        "" if question.wording == "caption" else templates.render_question(question, asking, rng)
        for question in dialogue
    ]
    answers = [templates.answer(question, scene, lexicon) for question in dialogue]
    text = build_prompt(list(zip(worded[:-1], answers[:-1], strict=True)), worded[-1], LANGUAGES[lexicon.code])
    return EvalQuestion(task, lexicon.code, picture, text, answers[-1])
