"""Evaluation questions on everyday objects: scenes, prompts in each of the eighty languages, and correct answers.

Half of the questions are in English and half in the answer's language. Must not import `model`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blip_space.languages import LANGUAGES
from training.evaluation.flat_shapes import SEED, EvalQuestion
from training.lexicon.lexicon import Lexicons
from training.scenes import everyday
from training.scenes.mixture import ood_scene
from training.scenes.scene import Scene
from training.tasks import templates
from training.tasks.questions import Question
from training.tasks.samples import build_prompt
from training.tasks.templates import CAPTION, COUNT, WHAT

Dialogue = Sequence[Question]

# A task's name is a row of the card and the seed of the task's questions: a new name would give new questions.
NAME_TASK = "name of one thing"
FALSE_UNKNOWN = "falsely “I don't know” (fewer are better)"
UNKNOWN = "“I don't know”: "


@dataclass(frozen=True)
class EvalTask:
    """A task: the possible numbers of objects in its scenes, and a function that samples a dialogue about a scene."""

    numbers: tuple[int, ...]
    dialogue: Callable[[Scene, random.Random], Dialogue | None]


def _at_side(side: str) -> Question:
    return Question(side, "what", side=side)


def _sample_kind(scene: Scene, rng: random.Random) -> str:
    """A random kind of object; half the time it is that of an object in the scene."""
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
        (1, 2, 3, 4), lambda s, r: [Question("count_of", "count", r.choice(s.objects).kind)]
    ),
    "is there a …": EvalTask((1, 2, 3, 4), lambda s, r: [Question("exists", "exists", _sample_kind(s, r))]),
    "left / right": EvalTask((2, 3, 4), _side_task),
    "second turn that needs the first": EvalTask((2, 3, 4), _second_turn_task),
}


def everyday_scenes(numbers: Sequence[int], count: int, *, seed: int = SEED) -> list[Scene]:
    """`count` scenes that are not in the training data; the number of objects is one of `numbers`."""
    return [
        everyday.sample_everyday_scene(random.Random(f"examination/{seed}/{numbers}/{index}"), numbers=tuple(numbers))
        for index in range(count)
    ]


def ood_scenes(kind: str, count: int) -> list[Scene]:
    """`count` out-of-distribution scenes of `kind`."""
    return [ood_scene(kind) for _ in range(count)]


def everyday_questions(
    task: str, scenes: Sequence[Scene], lexicons: Lexicons, codes: Sequence[str], *, each: int, seed: int = SEED
) -> list[EvalQuestion]:
    """At most `each` questions of the task for each language of `codes`, about scenes that suit the task."""
    rng = random.Random(f"everyday-sheet/{seed}/{task}")
    questions = []
    for code in codes:
        chosen: list[EvalQuestion] = []
        for index in rng.sample(range(len(scenes)), len(scenes)):
            dialogue = TASKS[task].dialogue(scenes[index], rng) if len(chosen) < each else None
            if dialogue:
                chosen.append(make_question(task, lexicons, code, index, dialogue, scenes[index], rng))
        questions += chosen
    return questions


def ood_questions(
    task: str, count: int, lexicons: Lexicons, codes: Sequence[str], *, seed: int = SEED
) -> list[EvalQuestion]:
    """A question about each of `count` out-of-distribution images; the answers' languages are `codes` in turn."""
    rng = random.Random(f"unknown-sheet/{seed}/{task}")
    questions = (WHAT, WHAT, CAPTION, COUNT, Question("exists", "exists", rng.choice(everyday.NAMES)), _at_side("left"))
    scene = ood_scene("photo")
    return [
        make_question(task, lexicons, codes[i % len(codes)], i, [rng.choice(questions)], scene, rng)
        for i in range(count)
    ]


def make_question(
    task: str, lexicons: Lexicons, code: str, index: int, dialogue: Dialogue, scene: Scene, rng: random.Random
) -> EvalQuestion:
    """The dialogue's last question, with the prompt that serving would build for it after the earlier turns."""
    lexicon = lexicons[code]
    asked_in = rng.choice((lexicon, lexicons["en"]))
    texts = ["" if one.wording == "caption" else templates.render_question(one, asked_in, rng) for one in dialogue]
    answers = [templates.answer(one, scene, lexicon) for one in dialogue]
    prompt = build_prompt(list(zip(texts[:-1], answers[:-1], strict=True)), texts[-1], LANGUAGES[code])
    return EvalQuestion(task, code, index, prompt, answers[-1])
