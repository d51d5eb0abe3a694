"""The last stage: eyes and language together, on fresh pictures, with the teacher still looking on."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from training import checkpoints
from training.batches import Batch, Pictures
from training.network import look, project
from training.stages import Stage, Workshop, run
from training.text import LanguageExam, language_groups, spoken_loss
from training.vision import eyes, restored

NAME = "joint"
TEACHER_SHARE = 0.3


def teach(shop: Workshop, *, tokenizer: Any) -> None:
    """Run the stage to its end, or go on with it."""
    recipe = shop.recipe
    model, _ = restored(shop, vocabulary=len(tokenizer), stage="text")
    _, teacher = restored(shop, vocabulary=len(tokenizer), stage="sight")
    exam = LanguageExam(shop, tokenizer)
    groups = [*language_groups(model), {"params": [*eyes(model), *teacher.parameters()]}]

    def learn(batch: Batch) -> Tensor:
        seen = look(model, batch["pixels"])
        prefix = project(model, seen.found)
        return spoken_loss(model, prefix, batch) + TEACHER_SHARE * teacher.loss(seen, prefix, batch)

    run(
        Stage(
            name=NAME,
            schedule=recipe.joint,
            modules={"model": model, "teacher": teacher},
            groups=groups,
            batches=Pictures(recipe, NAME, recipe.joint.batch, tokenizer=tokenizer),
            learn=learn,
            examine=lambda: exam(model),
        ),
        shop,
    )


def latest(shop: Workshop) -> str:
    """The furthest stage that has a checkpoint."""
    return next(name for name in (NAME, "text", "sight", "queries", "vision") if checkpoints.load(shop.file(name)))
