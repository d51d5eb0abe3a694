"""The second stage: the queries alone learn to count and to place what the patches already show.

The vision model rests and its states are cached, so this stage sees five times as many scenes a second as the first.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training import features
from training.batches import Batch, asked
from training.network import Teacher, gather, project
from training.recipe import Recipe
from training.stages import Stage, Workshop, run
from training.vision import exam_sheet, examine, eyes, fresh, restored

NAME = "queries"


@dataclass(frozen=True)
class _Reports:
    """Batches of cached scenes and what is to be reported of them."""

    recipe: Recipe

    def __call__(self, step: int) -> Batch:
        draw = random.Random(f"queries/{self.recipe.seed}/{step}")
        rows = [draw.randrange(self.recipe.cached_scenes) for _ in range(self.recipe.queries.batch)]
        scenes = [features.scene(self.recipe, row) for row in rows]
        grid = self.recipe.sizes.image // self.recipe.sizes.patch
        return {"rows": torch.tensor(rows), **asked(scenes, grid)}


def teach(shop: Workshop, *, vocabulary: int) -> None:
    """Run the stage to its end, or go on with it."""
    recipe = shop.recipe
    model, teacher = restored(shop, vocabulary=vocabulary, stage="vision")
    _start_afresh(model, teacher, shop, vocabulary=vocabulary)
    states, sheet = features.states(shop, model), exam_sheet(recipe)
    resting = {id(parameter) for parameter in model.vision_model.parameters()}
    moving = [parameter for parameter in eyes(model) if id(parameter) not in resting]

    def learn(batch: Batch) -> Tensor:
        seen = states[batch["rows"].cpu()].to(shop.device).float()
        return teacher.report_loss(project(model, gather(model, seen)), batch)

    run(
        Stage(
            name=NAME,
            schedule=recipe.queries,
            modules={"model": model, "teacher": teacher},
            groups=[{"params": [*moving, *teacher.count.parameters(), *teacher.name.parameters()]}],
            batches=_Reports(recipe),
            learn=learn,
            examine=lambda: examine(model, teacher, sheet, shop),
        ),
        shop,
    )


def _start_afresh(model: Any, teacher: Teacher, shop: Workshop, *, vocabulary: int) -> None:
    """Give the queries new weights: those that grew beside the vision model learned before it knew any shape.

    They answer "none" to every question about a shape, and stay there; new ones learn the same in 300 steps.
    """
    new, new_teacher = fresh(shop, vocabulary=vocabulary)
    kept = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("vision_model")}
    model.load_state_dict(new.state_dict() | kept)
    teacher.count.load_state_dict(new_teacher.count.state_dict())
    teacher.name.load_state_dict(new_teacher.name.state_dict())
