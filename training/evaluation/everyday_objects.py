"""Evaluation questions on everyday objects: scenes, prompts in each of the eighty languages, and correct answers.

Half of the questions are in English and half in the answer's language. Must not import `model`.
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

NAME_TASK = "name of one thing"
FALSE_UNKNOWN = "falsely “I don't know” (fewer are better)"
UNKNOWN = "“I don't know”: "


@dataclass(frozen=True)
class EvalTask:
    """A task: the possible numbers of objects in its scenes, and the dialogue about a scene."""

    numbers: tuple[int, ...]
    dialogue: Callable[[Scene, random.Random], Dialogue | None]


def _at_side(side: str) -> Question:
    return Question(side, "what", side=side)


def _sample_kind(scene: Scene, rng: random.Random) -> str:
    """A kind of object, half the time one of the scene's."""
    return rng.choice(scene.objects).kind if rng.random() < 0.5 else rng.choice(everyday.NAMES)


def _side_task(scene: Scene, rng: random.Random) -> Dialogue | None:
    sides = [side for side in ("left", "right") if scene.at(side)]
    return [_at_side(rng.choice(sides))] if sides else None


def _second_turn_task(scene: Scene, rng: random.Random) -> Dialogue | None:
    if scene.at("left") and scene.at("right") and rng.random() < 0.5:
        one, other = rng.sample(("left", "right"), 2)
        return [_at_side(one), Question(f"and_{other}", "what", side=other)]
    first, second = rng.choice(scene.objects).kind, _sample_kind(scene, rng)
    answer_type, wording = rng.choice((("count", "count_of"), ("exists", "exists")))
    return [Question(wording, answer_type, first), Question("and_of", answer_type, second)]


TASKS: dict[str, EvalTask] = {
    NAME_TASK: EvalTask((1,), lambda _, __: [WHAT]),
    "caption of two": EvalTask((2,), lambda _, __: [CAPTION]),
    "caption of three or four": EvalTask((3, 4), lambda _, __: [CAPTION]),
    "how many (1–4)": EvalTask((1, 2, 3, 4), lambda _, __: [COUNT]),
    "how many of a kind": EvalTask(
        (1, 2, 3, 4), lambda s, d: [Question("count_of", "count", d.choice(s.objects).kind)]
    ),
    "is there a …": EvalTask((1, 2, 3, 4), lambda s, d: [Question("exists", "exists", _sample_kind(s, d))]),
    "left / right": EvalTask((2, 3, 4), _side_task),
    "second turn that needs the first": EvalTask((2, 3, 4), _second_turn_task),
}


def everyday_scenes(numbers: Sequence[int], count: int, *, seed: int = SEED) -> list[Scene]:
    """Scenes of everyday objects that are not in the training data."""
    return [
        everyday.sample_everyday_scene(random.Random(f"examination/{seed}/{numbers}/{index}"), numbers=tuple(numbers))
        for index in range(count)
    ]


def ood_scenes(kind: str, count: int) -> list[Scene]:
    """Out-of-distribution scenes of that kind."""
    return [ood_scene(kind) for _ in range(count)]


def everyday_questions(
    task: str,
    scenes: Sequence[Scene],
    lexicons: Mapping[str, Lexicon],
    codes: Sequence[str],
    *,
    each: int,
    seed: int = SEED,
) -> list[EvalQuestion]:
    """`each` questions of the task in each of these languages, on suitable scenes."""
    rng = random.Random(f"everyday-sheet/{seed}/{task}")
    questions = []
    for code in codes:
        task_questions: list[EvalQuestion] = []
        for index in rng.sample(range(len(scenes)), len(scenes)):
            dialogue = TASKS[task].dialogue(scenes[index], rng) if len(task_questions) < each else None
            if dialogue:
                task_questions.append(
                    make_question(task, lexicons[code], index, dialogue, scenes[index], lexicons, rng)
                )
        questions += task_questions
    return questions


def ood_questions(
    task: str, count: int, lexicons: Mapping[str, Lexicon], codes: Sequence[str], *, seed: int = SEED
) -> list[EvalQuestion]:
    """A question about each of `count` out-of-distribution images, in these languages in turn."""
    rng = random.Random(f"unknown-sheet/{seed}/{task}")
    questions = (WHAT, WHAT, CAPTION, COUNT, Question("exists", "exists", rng.choice(everyday.NAMES)), _at_side("left"))
    scene = ood_scene("photo")
    return [
        make_question(task, lexicons[codes[i % len(codes)]], i, [rng.choice(questions)], scene, lexicons, rng)
        for i in range(count)
    ]


def make_question(
    task: str,
    lexicon: Lexicon,
    index: int,
    dialogue: Dialogue,
    scene: Scene,
    lexicons: Mapping[str, Lexicon],
    rng: random.Random,
) -> EvalQuestion:
    """The dialogue's last question, with the prompt that serving would build after the earlier turns."""
    question_lexicon = rng.choice((lexicon, lexicons["en"]))
    texts = [
        "" if make_question.wording == "caption" else templates.render_question(make_question, question_lexicon, rng)
        for make_question in dialogue
    ]
    answers = [templates.answer(make_question, scene, lexicon) for make_question in dialogue]
    text = build_prompt(list(zip(texts[:-1], answers[:-1], strict=True)), texts[-1], LANGUAGES[lexicon.code])
    return EvalQuestion(task, lexicon.code, index, text, answers[-1])
