"""Evaluation questions on flat shapes: images, prompts in every language with a grammar, and correct answers.

There are two drawing styles: that of training, with other seeds, and that of `unseen_style`. Half of the questions are
in English and half in the answer's language. Must not import `model`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from blip_space.languages import LANGUAGES
from training.evaluation import unseen_style
from training.lexicon import GRAMMARS, Grammar
from training.scenes import rendering
from training.scenes.scene import SHAPES, Scene, sample_flat_scene
from training.tasks.questions import Question, answer, render_question
from training.tasks.samples import build_prompt

SEED = 7_777_777
"""The evaluation's seed; training uses the seed of its recipe."""

DRAWING_STYLES = ("plain Pillow", "training style")
Dialogue = Sequence[Question]
TaskSampler = Callable[[Scene, random.Random], Dialogue | None]


def _count_task(scene: Scene, _: random.Random) -> Dialogue | None:
    return [Question("count", "count")] if 1 <= len(scene.objects) <= 4 else None


def _count_kind_task(scene: Scene, rng: random.Random) -> Dialogue | None:
    if not scene.objects or len(scene.objects) > 4:
        return None
    obj = rng.choice(scene.objects)
    return [Question("count", "count", obj.kind, rng.choice((obj.colour, None)))]


def _colour_task(scene: Scene, _: random.Random) -> Dialogue | None:
    return [Question("colour_it", "colour")] if len(scene.objects) == 1 else None


def _shape_task(scene: Scene, _: random.Random) -> Dialogue | None:
    return [Question("shape_it", "shape")] if len(scene.objects) == 1 else None


def _exists_task(scene: Scene, rng: random.Random) -> Dialogue | None:
    if not 1 <= len(scene.objects) <= 4:
        return None
    obj, other = rng.choice(scene.objects), rng.choice(SHAPES)
    return [Question("exists", "exists", rng.choice((obj.kind, other)), rng.choice((obj.colour, None)))]


def _side_task(names: Sequence[str]) -> TaskSampler:
    def sample(scene: Scene, rng: random.Random) -> Dialogue | None:
        sides = [side for side in names if scene.at(side) and 2 <= len(scene.objects) <= 4]
        return [Question("side", "what", side=rng.choice(sides))] if sides else None

    return sample


def _caption_task(kinds: Sequence[int]) -> TaskSampler:
    def sample(scene: Scene, _: random.Random) -> Dialogue | None:
        return [Question("caption", "what")] if len(scene.kinds()) in kinds else None

    return sample


def _second_turn(scene: Scene, rng: random.Random) -> Dialogue | None:
    left, right = scene.at("left"), scene.at("right")
    if left and right and 2 <= len(scene.objects) <= 4 and rng.random() < 0.6:
        newest = (Question("and_side", "what", side="right"), Question("colour_it", "colour", side="left"))
        return [Question("side", "what", side="left"), rng.choice(newest)]
    if not 2 <= len(scene.objects) <= 4:
        return None
    obj = rng.choice(scene.objects)
    newest = (Question("and_many", "count", rng.choice(SHAPES)), Question("colour_they", "colour", obj.kind))
    return [Question("count", "count", obj.kind), newest[scene.count(obj.kind) > 1 and rng.random() < 0.6]]


TASKS: dict[str, TaskSampler] = {
    "how many (1–4)": _count_task,
    "how many of a kind": _count_kind_task,
    "colour of one": _colour_task,
    "shape of one": _shape_task,
    "is there a …": _exists_task,
    "left / right": _side_task(("left", "right")),
    "top / bottom / middle": _side_task(("top", "bottom", "middle")),
    "caption, 1–2 kinds": _caption_task((1, 2)),
    "caption, 3–4 kinds": _caption_task((3, 4)),
    "second turn that needs the first": _second_turn,
}


@dataclass(frozen=True)
class EvalQuestion:
    """One evaluation question: its task and language, the index of its image, the prompt, the correct answer."""

    task: str
    language: str
    image: int
    prompt: str
    expected: str


@dataclass(frozen=True)
class ImageSet:
    """Images in one drawing style, at the model's size as bytes (N, side, side, 3), and their scenes."""

    images: torch.Tensor
    scenes: tuple[Scene, ...]


def make_image_set(style: str, *, count: int, side: int, seed: int = SEED) -> ImageSet:
    """`count` images of the evaluation in the drawing style `style`, `side` pixels square, with their scenes."""
    if style == DRAWING_STYLES[0]:
        pairs = [unseen_style.draw_image(seed, index) for index in range(count)]
    else:
        scenes = [sample_flat_scene(seed, index, split="examination") for index in range(count)]
        pairs = [
            (rendering.distort(rendering.render_flat(scene), random.Random(f"{seed}/{i}")), scene)
            for i, scene in enumerate(scenes)
        ]
    return ImageSet(resized_bytes([image for image, _ in pairs], side), tuple(scene for _, scene in pairs))


def resized_bytes(images: Sequence[Image.Image], side: int) -> torch.Tensor:
    """Resize images of any size to `side`, the model's size; returns bytes (N, side, side, 3)."""
    return torch.from_numpy(np.stack([np.asarray(rendering.resize(image, side)) for image in images]))


def flat_questions(image_set: ImageSet, *, each: int, seed: int = SEED) -> list[EvalQuestion]:
    """At most `each` questions of every task for every language with a grammar."""
    rng = random.Random(f"sheet/{seed}")
    questions = []
    for task, sampler in TASKS.items():
        for grammar in GRAMMARS.values():
            chosen: list[EvalQuestion] = []
            order = rng.sample(range(len(image_set.scenes)), len(image_set.scenes))
            for index in order * 3:
                dialogue = sampler(image_set.scenes[index], rng) if len(chosen) < each else None
                if dialogue:
                    chosen.append(_make_question(task, grammar, index, dialogue, image_set.scenes[index], rng))
            questions += chosen
    return questions


def _make_question(
    task: str, grammar: Grammar, index: int, dialogue: Dialogue, scene: Scene, rng: random.Random
) -> EvalQuestion:
    asked_in = rng.choice((grammar, GRAMMARS["en"]))
    texts = ["" if one.wording == "caption" else render_question(one, asked_in, rng) for one in dialogue]
    answers = [answer(one, scene, grammar) for one in dialogue]
    prompt = build_prompt(list(zip(texts[:-1], answers[:-1], strict=True)), texts[-1], LANGUAGES[grammar.code])
    return EvalQuestion(task, grammar.code, index, prompt, answers[-1])
