"""The exam: which pictures, which questions in every language, and their right answers.

Two hands draw: the training world's (fresh seeds) and `plainstyle`'s, which training never uses. Questions are asked
half in English and half in the answer's own language. Knows no model.
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
"""The exam's own; training uses its recipe's."""

HANDS = ("plain Pillow", "training world")
Dialogue = Sequence[Question]
Maker = Callable[[Scene, random.Random], Dialogue | None]


def _count(scene: Scene, _: random.Random) -> Dialogue | None:
    return [Question("count", "count")] if 1 <= len(scene.objects) <= 4 else None


def _count_kind(scene: Scene, rng: random.Random) -> Dialogue | None:
    if not scene.objects or len(scene.objects) > 4:
        return None
    obj = rng.choice(scene.objects)
    return [Question("count", "count", obj.kind, rng.choice((obj.colour, None)))]


def _colour(scene: Scene, _: random.Random) -> Dialogue | None:
    return [Question("colour_it", "colour")] if len(scene.objects) == 1 else None


def _shape(scene: Scene, _: random.Random) -> Dialogue | None:
    return [Question("shape_it", "shape")] if len(scene.objects) == 1 else None


def _exists(scene: Scene, rng: random.Random) -> Dialogue | None:
    if not 1 <= len(scene.objects) <= 4:
        return None
    obj, other = rng.choice(scene.objects), rng.choice(SHAPES)
    return [Question("exists", "exists", rng.choice((obj.kind, other)), rng.choice((obj.colour, None)))]


def _side(names: Sequence[str]) -> Maker:
    def make_one(scene: Scene, rng: random.Random) -> Dialogue | None:
        known = [side for side in names if scene.at(side) and 2 <= len(scene.objects) <= 4]
        return [Question("side", "what", side=rng.choice(known))] if known else None

    return make_one


def _caption(kinds: Sequence[int]) -> Maker:
    def make_one(scene: Scene, _: random.Random) -> Dialogue | None:
        return [Question("caption", "what")] if len(scene.kinds()) in kinds else None

    return make_one


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


TASKS: dict[str, Maker] = {
    "how many (1–4)": _count,
    "how many of a kind": _count_kind,
    "colour of one": _colour,
    "shape of one": _shape,
    "is there a …": _exists,
    "left / right": _side(("left", "right")),
    "top / bottom / middle": _side(("top", "bottom", "middle")),
    "caption, 1–2 kinds": _caption((1, 2)),
    "caption, 3–4 kinds": _caption((3, 4)),
    "second turn that needs the first": _second_turn,
}


@dataclass(frozen=True)
class EvalQuestion:
    """One question of the exam, ready to be asked and marked."""

    task: str
    language: str
    image: int
    prompt: str
    truth: str


@dataclass(frozen=True)
class Hand:
    """Pictures by one hand, at the model's size, and their scenes."""

    pictures: torch.Tensor
    scenes: tuple[Scene, ...]


def drawn(hand: str, *, count: int, side: int, seed: int = SEED) -> Hand:
    """The exam's pictures by that hand."""
    if hand == HANDS[0]:
        made = [unseen_style.draw_image(seed, index) for index in range(count)]
    else:
        scenes = [sample_flat_scene(seed, index, split="examination") for index in range(count)]
        made = [
            (rendering.distort(rendering.render_flat(scene), random.Random(f"{seed}/{i}")), scene)
            for i, scene in enumerate(scenes)
        ]
    return Hand(as_bytes([image for image, _ in made], side), tuple(scene for _, scene in made))


def as_bytes(images: Sequence[Image.Image], side: int) -> torch.Tensor:
    """Pictures of any size as the model sees them."""
    return torch.from_numpy(np.stack([np.asarray(rendering.resize(image, side)) for image in images]))


def sheet(hand: Hand, *, each: int, seed: int = SEED) -> list[EvalQuestion]:
    """`each` questions of every task in every language."""
    rng = random.Random(f"sheet/{seed}")
    questions = []
    for task, maker in TASKS.items():
        for grammar in GRAMMARS.values():
            picked: list[EvalQuestion] = []
            order = rng.sample(range(len(hand.scenes)), len(hand.scenes))
            for picture in order * 3:
                dialogue = maker(hand.scenes[picture], rng) if len(picked) < each else None
                if dialogue:
                    picked.append(_question(task, grammar, picture, dialogue, hand.scenes[picture], rng))
            questions += picked
    return questions


def _question(
    task: str, grammar: Grammar, picture: int, dialogue: Dialogue, scene: Scene, rng: random.Random
) -> EvalQuestion:
    asking = rng.choice((grammar, GRAMMARS["en"]))
    worded = ["" if question.wording == "caption" else render_question(question, asking, rng) for question in dialogue]
    turns = [
        (words, answer(question, scene, grammar)) for words, question in zip(worded[:-1], dialogue[:-1], strict=True)
    ]
    text = build_prompt(turns, worded[-1], LANGUAGES[grammar.code])
    return EvalQuestion(task, grammar.code, picture, text, answer(dialogue[-1], scene, grammar))
