"""The third stage, at the same time as the first two: the language model learns to read reports that no eyes gave.

The reports are written straight from scenes, in the code that the eyes learn to write in, and blurred. First come
single questions in English, then in every language, then conversations.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.model import embeddings, targets
from training.model.architecture import PAD, parts
from training.model.codebook import Codebook
from training.model.generation import answered
from training.model.question_targets import Grasp
from training.model.targets import ALL, UNASKED
from training.model.vocabulary import senses
from training.recipe import Recipe
from training.scenes.mixture import sample_scene
from training.scenes.scene import Scene
from training.stages import checkpoints
from training.stages.batches import KINDS, SPOKEN, Batch, Words, taught
from training.stages.batches import teach as put
from training.stages.loop import Stage, Workshop, run
from training.stages.vision_encoder import fresh, modules_of
from training.tasks.samples import SampleKind

NAME = "text"
SINGLES: tuple[SampleKind, ...] = ("short", "long", "short")
ENGLISH_SHARE, SINGLES_SHARE = 0.05, 0.2
"""So much of the stage speaks English alone, and asks single questions alone."""

BLUR = 0.5
"""The spread of what is added to every number of a report."""

EMBEDDING_SCALE = 1.0
"""How much faster than the rest embeddings move."""

EXAM_LESSONS = 256


@dataclass(frozen=True)
class Lessons:
    """Batches of lessons on scenes that nobody draws: what eyes would report of them, and the encoded words."""

    recipe: Recipe
    words: Words

    def __call__(self, step: int) -> Batch:
        """The batch of that number; conversations come in batches of their own, since they are long."""
        schedule, seed = self.recipe.text, self.recipe.seed
        rng = random.Random(f"text/{seed}/{step}")
        progress = step / schedule.steps
        first = step * schedule.batch
        scenes = [sample_scene(seed, first + i, split=NAME) for i in range(schedule.batch)]
        codes = ("en",) if progress < ENGLISH_SHARE else SPOKEN
        kinds = SINGLES if progress < SINGLES_SHARE else KINDS
        lessons = taught(scenes, rng, kind=kinds[step % len(kinds)], words=self.words, codes=codes)
        return {"report": reported(scenes, rng), **lessons}


def reported(scenes: Sequence[Scene], rng: random.Random) -> Tensor:
    """The scenes' reports; eyes say something of every side, so where nothing clearly is, they name any thing."""
    reports = np.stack([targets.report(one) for one in scenes])
    for said, one in zip(reports, scenes, strict=True):
        for side in said[ALL + 1 :]:
            if side[0] == UNASKED and one.objects:
                side[:2] = said[rng.randrange(len(one.objects)), :2]
    return torch.from_numpy(reports)


def teach(shop: Workshop, *, tokenizer: Any) -> None:
    """Run the stage to its end, or go on with it."""
    recipe = shop.recipe
    model, teacher = fresh(shop, vocabulary=len(tokenizer))
    if not shop.begin:
        embeddings.begin(model, tokenizer, senses(shop.sources), teacher.codebook)
    grasp = Grasp(recipe.sizes.text_width).to(shop.device)
    words = Words(tokenizer, shop.lexicons())
    exam = LanguageExam(recipe, words)
    reports = reported(exam.scenes, random.Random(f"exam-reports/{recipe.seed}"))

    def read(report: Tensor) -> Tensor:
        return blurred(teacher.codebook, report.to(shop.device))

    run(
        Stage(
            name=NAME,
            schedule=recipe.text,
            modules={"model": model, "grasp": grasp},
            groups=[*language_groups(model), *parts(grasp)],
            batches=Lessons(recipe, words),
            learn=lambda batch: spoken_loss(model, grasp, read(batch["report"]), batch),
            examine=lambda: exam(model, read(reports)),
        ),
        shop,
    )


def restored_grasp(shop: Workshop) -> Grasp:
    """What asks the reader for meanings, as the stage left it; a new one in a run that began with weights."""
    grasp = Grasp(shop.recipe.sizes.text_width).to(shop.device)
    if shop.begin and not checkpoints.load(shop.file(NAME)):
        return grasp
    grasp.load_state_dict(modules_of(shop, NAME)["grasp"])
    return grasp


def blurred(codebook: Codebook, report: Tensor) -> Tensor:
    """The reports as vectors, less clear than the code has them."""
    vectors = codebook.written(report)
    return vectors + BLUR * torch.randn_like(vectors)


def spoken_loss(model: Any, grasp: Grasp, prefix: Tensor, batch: Batch) -> Tensor:
    """How surprised the language model is by the right answers, given [picture][prompt], and by what is meant."""
    words = model.language_model.get_input_embeddings()(batch["prompt"])
    mask = torch.cat([torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device), batch["mask"]], dim=1)
    inputs = torch.cat([prefix.to(words.dtype), words], dim=1)
    language = model.language_model
    read = language.encoder(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
    labels, asked = batch["labels"], batch["labels"] != UNASKED
    before = torch.cat([torch.full_like(labels[:, :1], PAD), labels[:, :-1]], dim=1).clamp(min=PAD)
    said = language.decoder(input_ids=before, encoder_hidden_states=read, encoder_attention_mask=mask)
    # Only where something is to be said: the vocabulary is wide, and most of a batch of answers is padding.
    logits = language.lm_head(said.last_hidden_state[asked])
    surprise = nn.functional.cross_entropy(logits.float(), labels[asked])
    return surprise + grasp.loss(read, mask, batch["meaning"])


def language_groups(model: Any) -> list[dict[str, Any]]:
    """The language model's parameters; embeddings with their own pace."""
    words = model.language_model.get_input_embeddings().weight
    groups = [
        {**group, "params": [one for one in group["params"] if one is not words]}
        for group in parts(model.language_model)
    ]
    return [*groups, {"params": [words], "scale": EMBEDDING_SCALE, "weight_decay": 0.0}]


class LanguageExam:
    """A fixed sheet of lessons on unseen scenes, marked by exact match."""

    def __init__(self, recipe: Recipe, words: Words) -> None:
        size = min(EXAM_LESSONS, recipe.exam_scenes)
        rng = random.Random(f"exam-words/{recipe.seed}")
        self.scenes = [sample_scene(recipe.seed, i, split="exam") for i in range(size)]
        self.sorts = [("English", "any", "dialogue")[i % 3] for i in range(size)]
        self.lessons = [
            put(
                self.scenes,
                i,
                rng,
                kind="dialogue" if sort == "dialogue" else "any",
                lexicons=words.lexicons,
                codes=("en",) if sort == "English" else tuple(words.lexicons),
            )
            for i, sort in enumerate(self.sorts)
        ]
        self.tokenizer = words.tokenizer

    def __call__(self, model: Any, seen: Tensor) -> Mapping[str, float]:
        """The share of exact answers to single questions and in conversations; `seen` stands for the pictures."""
        model.eval()
        said = answered(model, self.tokenizer, seen, [one.prompt for one in self.lessons])
        model.train()
        right = [words == one.answer for words, one in zip(said, self.lessons, strict=True)]
        return {
            name: sum(mark for mark, sort in zip(right, self.sorts, strict=True) if sort == wanted)
            / max(1, self.sorts.count(wanted))
            for name, wanted in (("exact in English", "English"), ("exact", "any"), ("exact in talks", "dialogue"))
        }
