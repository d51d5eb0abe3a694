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
from training.scenes.mixture import stranger
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


def _kind(scene: Scene, draw: random.Random) -> str:
    """A kind, as often in the scene as not."""
    return draw.choice(scene.things).kind if draw.random() < 0.5 else draw.choice(everyday.NAMES)


def _side(scene: Scene, draw: random.Random) -> Talk | None:
    known = [side for side in ("left", "right") if scene.at(side)]
    return [_at(draw.choice(known))] if known else None


def _second_turn(scene: Scene, draw: random.Random) -> Talk | None:
    if scene.at("left") and scene.at("right") and draw.random() < 0.5:
        one, other = draw.sample(("left", "right"), 2)
        return [_at(one), Ask(f"and_{other}", "what", side=other)]
    first, second = draw.choice(scene.things).kind, _kind(scene, draw)
    wants, wording = draw.choice((("count", "count_of"), ("exists", "exists")))
    return [Ask(wording, wants, first), Ask("and_of", wants, second)]


TASKS: dict[str, Task] = {
    NAME: Task((1,), lambda _, __: [WHAT]),
    "caption of two": Task((2,), lambda _, __: [CAPTION]),
    "caption of three or four": Task((3, 4), lambda _, __: [CAPTION]),
    "how many (1–4)": Task((1, 2, 3, 4), lambda _, __: [COUNT]),
    "how many of a kind": Task((1, 2, 3, 4), lambda s, d: [Ask("count_of", "count", d.choice(s.things).kind)]),
    "is there a …": Task((1, 2, 3, 4), lambda s, d: [Ask("exists", "exists", _kind(s, d))]),
    "left / right": Task((2, 3, 4), _side),
    "second turn that needs the first": Task((2, 3, 4), _second_turn),
}


def scenes(numbers: Sequence[int], count: int, *, seed: int = SEED) -> list[Scene]:
    """Fresh scenes of everyday things."""
    return [
        everyday.make(random.Random(f"examination/{seed}/{numbers}/{index}"), numbers=tuple(numbers))
        for index in range(count)
    ]


def strangers(sort: str, count: int) -> list[Scene]:
    """Scenes of nothing that the world knows."""
    return [stranger(sort) for _ in range(count)]


def sheet(
    task: str, shown: Sequence[Scene], plains: Mapping[str, Plain], codes: Sequence[str], *, each: int, seed: int = SEED
) -> list[Question]:
    """`each` questions of the task in every one of these languages, on the scenes that suit it."""
    draw = random.Random(f"everyday-sheet/{seed}/{task}")
    questions = []
    for code in codes:
        picked: list[Question] = []
        for picture in draw.sample(range(len(shown)), len(shown)):
            talk = TASKS[task].talk(shown[picture], draw) if len(picked) < each else None
            if talk:
                picked.append(question(task, plains[code], picture, talk, shown[picture], plains, draw))
        questions += picked
    return questions


def unknown_sheet(
    task: str, count: int, plains: Mapping[str, Plain], codes: Sequence[str], *, seed: int = SEED
) -> list[Question]:
    """A question about each of `count` strange pictures, in these languages by turns."""
    draw = random.Random(f"unknown-sheet/{seed}/{task}")
    asks = (WHAT, WHAT, CAPTION, COUNT, Ask("exists", "exists", draw.choice(everyday.NAMES)), _at("left"))
    nothing = stranger("photo")
    return [
        question(task, plains[codes[i % len(codes)]], i, [draw.choice(asks)], nothing, plains, draw)
        for i in range(count)
    ]


def question(
    task: str,
    plain: Plain,
    picture: int,
    talk: Talk,
    scene: Scene,
    plains: Mapping[str, Plain],
    draw: random.Random,
) -> Question:
    """The last question of the talk, put as serving would put it after the turns before."""
    asking = draw.choice((plain, plains["en"]))
    worded = ["" if ask.wording == "caption" else templates.phrase(ask, asking, draw) for ask in talk]
    answers = [templates.answer(ask, scene, plain) for ask in talk]
    text = prompt(list(zip(worded[:-1], answers[:-1], strict=True)), worded[-1], LANGUAGES[plain.code])
    return Question(task, plain.code, picture, text, answers[-1])
