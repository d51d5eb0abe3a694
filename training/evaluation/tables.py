"""The figures on everyday things: puts a model through their exam and lays the marks out as the card's tables.

Knows which scenes make which figure; the questions are `everyday_exam`'s, the conditions `distortions`'.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training import card
from training.evaluation import conditions, example_images
from training.evaluation.everyday_objects import (
    FALSELY,
    NAME,
    TASKS,
    UNKNOWN,
    question,
    scenes,
    sheet,
    strangers,
    unknown_sheet,
)
from training.evaluation.flat_shapes import SEED, EvalQuestion, as_bytes
from training.evaluation.scoring import ANSWERED_IN_LANGUAGE, Marks, mark, mean
from training.lexicon.lexicon import Lexicon
from training.model.generation import greedy
from training.recipe import STYLES
from training.scenes import mixture
from training.scenes.mixture import SceneRenderer
from training.scenes.out_of_distribution import EVALUATION_FILES, KINDS
from training.scenes.scene import Scene
from training.scenes.sources import STYLES as ALL_STYLES

HEAVY, PICTURES = 25, 1000
"""English is asked so many times as often as each other language; so many pictures are drawn for a task."""


@dataclass(frozen=True)
class Candidate:
    """Who is examined, and with which words."""

    model: Any
    tokenizer: Any
    lexicons: Mapping[str, Lexicon]
    sources: Path

    @property
    def side(self) -> int:
        """The side of the model's pictures, in pixels."""
        return int(self.model.config.vision_config.image_size)

    def answers(self, pictures: Tensor, questions: Sequence[EvalQuestion]) -> list[str]:
        """What the model says to each question about its picture."""
        chosen = torch.tensor([question.image for question in questions])
        return greedy(self.model, self.tokenizer, pictures[chosen], [question.prompt for question in questions])


def pictures(shown: Sequence[Scene], of: SceneRenderer, side: int, *, seed: int = SEED) -> Tensor:
    """The scenes as the model sees them."""
    drawn = [
        of.render(scene, side=side, seed=f"examination/{seed}/{i}", clean=True)[0] for i, scene in enumerate(shown)
    ]
    return torch.from_numpy(np.stack(drawn))


def examine(candidate: Candidate, *, each: int, seed: int = SEED, codes: Sequence[str] = ()) -> tuple[Marks, float]:
    """The marks of every task in these languages (all, unless told), and the share of answers that falsely say
    "I don't know"."""
    codes = codes or tuple(candidate.lexicons)
    of = mixture.load_renderer(candidate.sources, STYLES)
    asked, said = [], []
    for task, wanted in TASKS.items():
        shown = scenes(wanted.numbers, min(PICTURES, HEAVY * each), seed=seed)
        seen = pictures(shown, of, candidate.side, seed=seed)
        others = [code for code in codes if code != "en"]
        questions = sheet(task, shown, candidate.lexicons, others, each=each, seed=seed)
        questions += sheet(task, shown, candidate.lexicons, ["en"], each=HEAVY * each, seed=seed)
        asked += questions
        said += candidate.answers(seen, questions)
    gave_up = [words == candidate.lexicons[one.language].unknown for one, words in zip(asked, said, strict=True)]
    return mark(asked, said, candidate.sources), sum(gave_up) / len(gave_up)


def unknown(candidate: Candidate, *, count: int, seed: int = SEED) -> dict[str, float]:
    """The share of "I don't know" about each sort of strange picture; the photographs are those kept for the exam."""
    of = mixture.load_renderer(candidate.sources, STYLES[:1], photographs=EVALUATION_FILES)
    found = {}
    for sort in KINDS:
        seen = pictures(strangers(sort, count), of, candidate.side, seed=seed)
        questions = unknown_sheet(UNKNOWN + sort, count, candidate.lexicons, tuple(candidate.lexicons), seed=seed)
        said = candidate.answers(seen, questions)
        found[sort] = sum(words == one.truth for words, one in zip(said, questions, strict=True)) / count
    return found


def by_style(candidate: Candidate, *, count: int) -> dict[str, float]:
    """The share of right English names of one thing, for every hand that draws."""
    shown = scenes((1,), count)
    found = {}
    for style in ALL_STYLES:
        of = mixture.load_renderer(candidate.sources, (style,))
        known = [scene for scene in shown if of.cache.has_sprite(scene.objects[0].kind)]
        questions = sheet(NAME, known, candidate.lexicons, ["en"], each=count)
        said = candidate.answers(pictures(known, of, candidate.side), questions)
        found[style] = mean(mark(questions, said, candidate.sources), NAME)
    return found


def by_condition(candidate: Candidate, *, count: int) -> dict[str, float]:
    """The share of right English names of one thing under every hard condition."""
    of = mixture.load_renderer(candidate.sources, STYLES)
    shown = scenes((1,), count)
    questions = sheet(NAME, shown, candidate.lexicons, ["en"], each=count)
    found = {}
    for name, condition in conditions.CONDITIONS.items():
        rng = random.Random(f"conditions/{SEED}")
        images = [condition(of.cache, scene.objects[0].kind, rng) for scene in shown]
        said = candidate.answers(as_bytes(images, candidate.side), questions)
        found[name] = mean(mark(questions, said, candidate.sources), NAME)
    return found


def answered(candidate: Candidate) -> Image.Image:
    """A sheet of pictures with right and wrong answers, in English."""
    of = mixture.load_renderer(candidate.sources, STYLES)
    shown = [scene for trio in zip(*(scenes((number,), 100) for number in (1, 2, 3)), strict=True) for scene in trio]
    seen = pictures(shown, of, candidate.side)
    asked = [
        question
        for place, scene in enumerate(shown)
        for question in _about(scene, place, tuple(TASKS)[place % 6], candidate.lexicons)
    ]
    return example_images.sheet(list(seen.numpy()), asked, candidate.answers(seen, asked))


def _about(scene: Scene, place: int, task: str, lexicons: Mapping[str, Lexicon]) -> list[EvalQuestion]:
    rng = random.Random(f"gallery/{SEED}/{place}")
    dialogue = TASKS[task].dialogue(scene, rng)
    return [question(task, lexicons["en"], place, dialogue, scene, lexicons, rng)] if dialogue else []


def tables(candidate: Candidate, *, each: int) -> Iterator[str]:
    """The card's tables, one after another."""
    marks, gave_up = examine(candidate, each=each)
    tasks = (*TASKS, ANSWERED_IN_LANGUAGE)
    yield card.summary("everyday things", marks, tasks=tasks)
    sorts = {f"{UNKNOWN}{sort}": share for sort, share in unknown(candidate, count=8 * each).items()}
    yield card.list_of("pictures of nothing it knows", {**sorts, FALSELY: gave_up})
    styles = by_style(candidate, count=8 * each)
    yield card.list_of(
        "English name of one thing, by who drew it",
        {name if name in STYLES else f"{name} (never seen in training)": share for name, share in styles.items()},
    )
    conditions = by_condition(candidate, count=8 * each)
    yield card.list_of("English name of one thing, by condition", conditions)
    yield card.by_language("everyday things, by language", marks, tasks=tasks, languages=tuple(candidate.lexicons))
