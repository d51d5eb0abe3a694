"""The exam on everyday things: which scenes, which questions in each of the eighty languages, and their right answers.

Questions are asked half in English and half in the answer's own language. Knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from blip_space.languages import LANGUAGES
from training.evaluation.flat_shapes import SEED, Question
from training.lexicon.lexicon import Plain
from training.scenes import everyday
from training.scenes.mixture import out_of_distribution_scene
from training.scenes.scene import Scene
from training.tasks import templates
from training.tasks.questions import Ask
from training.tasks.samples import prompt
from training.tasks.templates import CAPTION, COUNT, WHAT

Talk = Sequence[Ask]

NAME = "name of one thing"
FALSELY = "falsely “I don't know” (fewer are better)"
UNKNOWN = "“I don't know”: "


@dataclass(frozen=True)
class Task:
    """A kind of question: on scenes of so many things, and what is asked of each."""

    numbers: tuple[int, ...]
    talk: Callable[[Scene, random.Random], Talk | None]


def _at(side: str) -> Ask:
    return Ask(side, "what", side=side)


def _kind(scene: Scene, rng: random.Random) -> str:
    """A kind, as often in the scene as not."""
    return rng.choice(scene.objects).kind if rng.random() < 0.5 else rng.choice(everyday.NAMES)


def _side(scene: Scene, rng: random.Random) -> Talk | None:
    known = [side for side in ("left", "right") if scene.at(side)]
    return [_at(rng.choice(known))] if known else None


def _second_turn(scene: Scene, rng: random.Random) -> Talk | None:
    if scene.at("left") and scene.at("right") and rng.random() < 0.5:
        one, other = rng.sample(("left", "right"), 2)
        return [_at(one), Ask(f"and_{other}", "what", side=other)]
    first, second = rng.choice(scene.objects).kind, _kind(scene, rng)
    wants, wording = rng.choice((("count", "count_of"), ("exists", "exists")))
    return [Ask(wording, wants, first), Ask("and_of", wants, second)]


TASKS: dict[str, Task] = {
    NAME: Task((1,), lambda _, __: [WHAT]),
    "caption of two": Task((2,), lambda _, __: [CAPTION]),
    "caption of three or four": Task((3, 4), lambda _, __: [CAPTION]),
    "how many (1–4)": Task((1, 2, 3, 4), lambda _, __: [COUNT]),
    "how many of a kind": Task((1, 2, 3, 4), lambda s, d: [Ask("count_of", "count", d.choice(s.objects).kind)]),
    "is there a …": Task((1, 2, 3, 4), lambda s, d: [Ask("exists", "exists", _kind(s, d))]),
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
    return [out_of_distribution_scene(sort) for _ in range(count)]


def sheet(
    task: str, shown: Sequence[Scene], plains: Mapping[str, Plain], codes: Sequence[str], *, each: int, seed: int = SEED
) -> list[Question]:
    """`each` questions of the task in every one of these languages, on the scenes that suit it."""
    rng = random.Random(f"everyday-sheet/{seed}/{task}")
    questions = []
    for code in codes:
        picked: list[Question] = []
        for picture in rng.sample(range(len(shown)), len(shown)):
            talk = TASKS[task].talk(shown[picture], rng) if len(picked) < each else None
            if talk:
                picked.append(question(task, plains[code], picture, talk, shown[picture], plains, rng))
        questions += picked
    return questions


def unknown_sheet(
    task: str, count: int, plains: Mapping[str, Plain], codes: Sequence[str], *, seed: int = SEED
) -> list[Question]:
    """A question about each of `count` strange pictures, in these languages by turns."""
    rng = random.Random(f"unknown-sheet/{seed}/{task}")
    asks = (WHAT, WHAT, CAPTION, COUNT, Ask("exists", "exists", rng.choice(everyday.NAMES)), _at("left"))
    nothing = out_of_distribution_scene("photo")
    return [
        question(task, plains[codes[i % len(codes)]], i, [rng.choice(asks)], nothing, plains, rng) for i in range(count)
    ]


def question(
    task: str,
    plain: Plain,
    picture: int,
    talk: Talk,
    scene: Scene,
    plains: Mapping[str, Plain],
    rng: random.Random,
) -> Question:
    """The last question of the talk, put as serving would put it after the turns before."""
    asking = rng.choice((plain, plains["en"]))
    worded = ["" if ask.wording == "caption" else templates.phrase(ask, asking, rng) for ask in talk]
    answers = [templates.answer(ask, scene, plain) for ask in talk]
    text = prompt(list(zip(worded[:-1], answers[:-1], strict=True)), worded[-1], LANGUAGES[plain.code])
    return Question(task, plain.code, picture, text, answers[-1])
