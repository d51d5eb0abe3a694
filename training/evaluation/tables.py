"""Evaluates a model on everyday objects and formats the scores as the card's tables.

The questions are from `everyday_objects`, the images under hard conditions from `conditions`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
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
    FALSE_UNKNOWN,
    NAME_TASK,
    TASKS,
    UNKNOWN,
    everyday_questions,
    everyday_scenes,
    make_question,
    ood_questions,
    ood_scenes,
)
from training.evaluation.flat_shapes import SEED, EvalQuestion, resized_bytes
from training.evaluation.plain_questions import (
    LANGUAGE_CODES,
    PLAIN_TASKS,
    YES_OR_NO,
    as_eval_questions,
    plain_questions,
)
from training.evaluation.scoring import ANSWERED_IN_LANGUAGE, Scores, mean, score
from training.lexicon.lexicon import Lexicons
from training.model.generation import generate
from training.recipe import STYLES
from training.scenes.mixture import SceneRenderer, load_renderer
from training.scenes.out_of_distribution import EVALUATION_FILES, KINDS
from training.scenes.scene import Scene
from training.scenes.sources import STYLES as ALL_STYLES

YES_SHARE = "answers “yes” to yes or no (50 is right)"
ENGLISH_FACTOR, MAX_SCENES = 25, 1000
"""The number of English questions per question in another language, and the maximum number of images of a task."""


@dataclass(frozen=True)
class EvaluatedModel:
    """A model with its tokenizer, every language's lexicon, the folder of downloaded packages, and its own folder."""

    model: Any
    tokenizer: Any
    lexicons: Lexicons
    sources: Path
    folder: Path

    @property
    def side(self) -> int:
        """The side of the model's images, in pixels."""
        return int(self.model.config.vision_config.image_size)

    def answers(self, images: Tensor, questions: Sequence[EvalQuestion]) -> list[str]:
        """The model's answer to each question; `question.image` is the index of the question's image."""
        indices = torch.tensor([question.image for question in questions])
        return generate(self.model, self.tokenizer, images[indices], [question.prompt for question in questions])

    def renderer(self, styles: Sequence[str] = STYLES) -> SceneRenderer:
        """A renderer with the sprites of `styles` and with the photographs of the evaluation."""
        return load_renderer(self.sources, styles, photos=EVALUATION_FILES)


def render_scenes(scenes: Sequence[Scene], renderer: SceneRenderer, side: int, *, seed: int = SEED) -> Tensor:
    """The scenes' images without distortion, `side` pixels square, as bytes (N, side, side, 3)."""
    split = f"examination/{seed}"
    images = [renderer.render(scene, side=side, seed=f"{split}/{i}", clean=True)[0] for i, scene in enumerate(scenes)]
    return torch.from_numpy(np.stack(images))


def evaluate_everyday(model: EvaluatedModel, *, each: int, seed: int = SEED) -> tuple[Scores, float]:
    """The scores of every task in every language, and the share of false "I don't know" answers."""
    lexicons, renderer = model.lexicons, model.renderer()
    other_codes = [code for code in lexicons if code != "en"]
    questions, answers = [], []
    for task, eval_task in TASKS.items():
        scenes = everyday_scenes(eval_task.numbers, min(MAX_SCENES, ENGLISH_FACTOR * each), seed=seed)
        images = render_scenes(scenes, renderer, model.side, seed=seed)
        task_questions = everyday_questions(task, scenes, lexicons, other_codes, each=each, seed=seed)
        task_questions += everyday_questions(task, scenes, lexicons, ["en"], each=ENGLISH_FACTOR * each, seed=seed)
        questions += task_questions
        answers += model.answers(images, task_questions)
    pairs = zip(questions, answers, strict=True)
    unknown = [answer == lexicons[question.language].unknown for question, answer in pairs]
    return score(questions, answers, model.sources), sum(unknown) / len(unknown)


def evaluate_ood(model: EvaluatedModel, *, count: int, seed: int = SEED) -> dict[str, float]:
    """The share of "I don't know" answers to `count` images of each out-of-distribution kind."""
    renderer, shares = model.renderer(STYLES[:1]), {}
    for kind in KINDS:
        images = render_scenes(ood_scenes(kind, count), renderer, model.side, seed=seed)
        questions = ood_questions(UNKNOWN + kind, count, model.lexicons, tuple(model.lexicons), seed=seed)
        pairs = zip(questions, model.answers(images, questions), strict=True)
        shares[kind] = sum(answer == question.expected for question, answer in pairs) / count
    return shares


def by_style(model: EvaluatedModel, *, count: int) -> dict[str, float]:
    """For each drawing style, the share of correct English names for images of one object."""
    scenes = everyday_scenes((1,), count)
    shares = {}
    for style in ALL_STYLES:
        renderer = model.renderer((style,))
        drawn = [scene for scene in scenes if renderer.cache.has_sprite(scene.objects[0].kind)]
        questions = everyday_questions(NAME_TASK, drawn, model.lexicons, ["en"], each=count)
        answers = model.answers(render_scenes(drawn, renderer, model.side), questions)
        shares[style] = mean(score(questions, answers, model.sources), NAME_TASK)
    return shares


def by_condition(model: EvaluatedModel, *, count: int) -> dict[str, float]:
    """For each hard condition, the share of correct English names for images of one object."""
    renderer, scenes = model.renderer(), everyday_scenes((1,), count)
    questions = everyday_questions(NAME_TASK, scenes, model.lexicons, ["en"], each=count)
    shares = {}
    for name, condition in conditions.CONDITIONS.items():
        rng = random.Random(f"conditions/{SEED}")
        images = [condition(renderer.cache, scene.objects[0].kind, rng) for scene in scenes]
        answers = model.answers(resized_bytes(images, model.side), questions)
        shares[name] = mean(score(questions, answers, model.sources), NAME_TASK)
    return shares


def evaluate_plain(model: EvaluatedModel, *, each: int, seed: int = SEED) -> tuple[Scores, dict[str, float]]:
    """The scores of plain questions, `each` for every wording; and in each language the share of "yes" in the answers
    to questions of which half have the answer yes."""
    plain = plain_questions(each, seed=seed)
    questions = as_eval_questions(plain, model.lexicons)
    images = render_scenes([question.scene for question in plain], model.renderer(), model.side, seed=seed)
    answers = model.answers(images, questions)
    said_yes: dict[str, list[bool]] = {}
    for question, answer in zip(questions, answers, strict=True):
        if question.task == YES_OR_NO:
            said_yes.setdefault(question.language, []).append(answer == model.lexicons[question.language].yes)
    yes_shares = {code: sum(answers) / len(answers) for code, answers in said_yes.items()}
    return score(questions, answers, model.sources), yes_shares


def plain_table(model: EvaluatedModel, *, each: int) -> str:
    """The table of plain questions: the share of correct answers of each task, and the share of "yes"."""
    scores, yes_shares = evaluate_plain(model, each=each)
    scores |= {(YES_SHARE, code): share for code, share in yes_shares.items()}
    return card.task_table("plain questions", scores, tasks=(*PLAIN_TASKS, YES_SHARE), languages=LANGUAGE_CODES)


def render_examples(model: EvaluatedModel) -> Image.Image:
    """The card's sheet of images with correct and wrong answers in English."""
    groups = zip(*(everyday_scenes((number,), 100) for number in (1, 2, 3)), strict=True)
    scenes = [scene for group in groups for scene in group]
    images = render_scenes(scenes, model.renderer(), model.side)
    questions = [
        question
        for index, scene in enumerate(scenes)
        for question in _example_questions(scene, index, tuple(TASKS)[index % 6], model.lexicons)
    ]
    return example_images.render_sheet(list(images.numpy()), questions, model.answers(images, questions))


def _example_questions(scene: Scene, index: int, task: str, lexicons: Lexicons) -> list[EvalQuestion]:
    rng = random.Random(f"gallery/{SEED}/{index}")
    dialogue = TASKS[task].dialogue(scene, rng)
    return [make_question(task, lexicons, "en", index, dialogue, scene, rng)] if dialogue else []


def card_tables(model: EvaluatedModel, *, each: int) -> Iterator[str]:
    """The card's tables of everyday objects and out-of-distribution images."""
    scores, false_unknown = evaluate_everyday(model, each=each)
    tasks = (*TASKS, ANSWERED_IN_LANGUAGE)
    yield card.summary_table("everyday objects", scores, tasks=tasks)
    kinds = {f"{UNKNOWN}{kind}": share for kind, share in evaluate_ood(model, count=8 * each).items()}
    yield card.share_table("out-of-distribution images", {**kinds, FALSE_UNKNOWN: false_unknown})
    styles = by_style(model, count=8 * each)
    labelled = {name if name in STYLES else f"{name} (not in the training data)": styles[name] for name in styles}
    yield card.share_table("English name of one object, by drawing style", labelled)
    yield card.share_table("English name of one object, by condition", by_condition(model, count=8 * each))
    yield card.language_table("everyday objects, by language", scores, tasks=tasks, languages=tuple(model.lexicons))
