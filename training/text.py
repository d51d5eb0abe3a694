"""The fourth stage: the language model learns to read what the queries say, on features computed once.

The eyes rest. First come questions on one or two things, then everything, conversations included.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training import features
from training.answers import greedy
from training.batches import KINDS, Batch, Pictures, encoded
from training.batches import teach as put
from training.recipe import Recipe
from training.scenes import make
from training.stages import Stage, Workshop, run
from training.vision import restored

NAME = "text"
EASY_SHARE = 0.05
"""So much of the stage asks single questions about scenes of one or two things."""

EMBEDDING_SCALE = 4.0
"""Embeddings start at a spread of one, so they must move faster than the rest to move at all."""

EXAM_LESSONS = 256


@dataclass(frozen=True)
class Lessons:
    """Batches of lessons on cached scenes: the rows of the features, and the encoded words."""

    recipe: Recipe
    tokenizer: Any

    def __call__(self, step: int) -> Batch:
        """The batch of that number; conversations come in batches of their own, since they are long."""
        draw = random.Random(f"text/{self.recipe.seed}/{step}")
        easy = step < self.recipe.text.steps * EASY_SHARE
        kind = "any" if easy else KINDS[step % len(KINDS)]
        among = features.few(self.recipe) if easy else self.recipe.cached_scenes
        rows = [draw.randrange(among) for _ in range(self.recipe.text.batch)]
        scenes = [features.scene(self.recipe, row) for row in rows]
        lessons = [put(scenes, i, draw, kind=kind) for i in range(len(scenes))]
        return {"rows": torch.tensor(rows), **encoded(lessons, self.tokenizer)}


def teach(shop: Workshop, *, tokenizer: Any) -> None:
    """Run the stage to its end, or go on with it."""
    recipe = shop.recipe
    model, _ = restored(shop, vocabulary=len(tokenizer), stage="sight")
    cached = features.prefixes(shop, model)
    exam = LanguageExam(shop, tokenizer)

    def learn(batch: Batch) -> Tensor:
        return spoken_loss(model, cached[batch["rows"].cpu()].to(shop.device).float(), batch)

    run(
        Stage(
            name=NAME,
            schedule=recipe.text,
            modules={"model": model},
            groups=language_groups(model),
            batches=Lessons(recipe, tokenizer),
            learn=learn,
            examine=lambda: exam(model),
        ),
        shop,
    )


def spoken_loss(model: Any, prefix: Tensor, batch: Batch) -> Tensor:
    """How surprised the language model is by the right answers, given [picture][prompt]."""
    words = model.language_model.get_input_embeddings()(batch["prompt"])
    mask = torch.cat([torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device), batch["mask"]], dim=1)
    inputs = torch.cat([prefix.to(words.dtype), words], dim=1)
    loss: Tensor = model.language_model(inputs_embeds=inputs, attention_mask=mask, labels=batch["labels"]).loss
    return loss


def language_groups(model: Any) -> list[dict[str, Any]]:
    """The language model's parameters; embeddings with their own pace."""
    embeddings = [model.language_model.get_input_embeddings().weight]
    known = {id(parameter) for parameter in embeddings}
    others = [p for p in model.language_model.parameters() if id(p) not in known]
    return [
        {"params": others},
        {"params": embeddings, "scale": EMBEDDING_SCALE, "weight_decay": 0.0},
    ]


class LanguageExam:
    """A fixed sheet of lessons on unseen scenes, marked by exact match."""

    def __init__(self, shop: Workshop, tokenizer: Any) -> None:
        size = min(EXAM_LESSONS, shop.recipe.exam_scenes)
        draw = random.Random(f"exam-words/{shop.recipe.seed}")
        scenes = [make(shop.recipe.seed, i, split="exam") for i in range(size)]
        self.talks = [i % 4 == 3 for i in range(size)]
        self.lessons = [put(scenes, i, draw, kind="talk" if self.talks[i] else "any") for i in range(size)]
        self.pictures = Pictures(shop.recipe, "exam", size).drawn(scenes, 0)
        self.shop, self.tokenizer = shop, tokenizer

    def __call__(self, model: Any) -> Mapping[str, float]:
        """The share of exact answers: single questions, and conversations."""
        model.eval()
        said = greedy(model, self.tokenizer, self.pictures, [one.prompt for one in self.lessons])
        model.train()
        right = [words == one.answer for words, one in zip(said, self.lessons, strict=True)]
        return {
            name: sum(mark for mark, talk in zip(right, self.talks, strict=True) if talk == wanted)
            / max(1, self.talks.count(wanted))
            for name, wanted in (("exact", False), ("exact in talks", True))
        }
