"""The first stage: the eyes alone learn to count, to name and to place things.

The ViT, the Q-Former and the projection learn against the `Teacher`'s heads; no word is spoken yet. Without this stage
the language model learns to ignore the picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training import checkpoints
from training.batches import Batch, Pictures
from training.network import Teacher, build, look, project
from training.recipe import Recipe
from training.stages import Stage, Workshop, autocast, run

NAME = "vision"
CROWD_SHARE = 0.3
"""So much of the stage looks at crowds, before it looks at the world as it is."""

EXAM_SIZE = 64
EYES = ("vision_model", "qformer", "language_projection", "query_tokens")


def teach(shop: Workshop, *, vocabulary: int) -> None:
    """Run the stage to its end, or go on with it."""
    recipe = shop.recipe
    model, teacher = fresh(shop, vocabulary=vocabulary)
    sheet = exam_sheet(recipe)

    def learn(batch: Batch) -> Tensor:
        seen = look(model, batch["pixels"])
        return teacher.loss(seen, project(model, seen.found), batch)

    run(
        Stage(
            name=NAME,
            schedule=recipe.vision,
            modules={"model": model, "teacher": teacher},
            groups=[{"params": [*eyes(model), *teacher.parameters()]}],
            batches=Pictures(recipe, NAME, recipe.vision.batch, crowds_until=round(recipe.vision.steps * CROWD_SHARE)),
            learn=learn,
            examine=lambda: examine(model, teacher, sheet, shop),
        ),
        shop,
    )


def fresh(shop: Workshop, *, vocabulary: int) -> tuple[Any, Teacher]:
    """A new model and its teacher, on the workshop's device."""
    model = build(shop.recipe.sizes, vocabulary=vocabulary, seed=shop.recipe.seed).to(shop.device)
    return model, Teacher(shop.recipe.sizes).to(shop.device)


def restored(shop: Workshop, *, vocabulary: int, stage: str) -> tuple[Any, Teacher]:
    """The model and the teacher as a stage left them."""
    state = checkpoints.load(shop.file(stage))
    if not state:
        raise SystemExit(f"The {stage} stage has not begun: run `python -m training {stage}` first.")
    model, teacher = fresh(shop, vocabulary=vocabulary)
    model.load_state_dict(state["modules"]["model"])
    if "teacher" in state["modules"]:
        teacher.load_state_dict(state["modules"]["teacher"])
    return model, teacher


def eyes(model: Any) -> list[torch.nn.Parameter]:
    """The parameters that lie before the language model."""
    return [parameter for name, parameter in model.named_parameters() if name.startswith(EYES)]


def exam_sheet(recipe: Recipe) -> list[Batch]:
    """Batches of scenes that training never sees."""
    pictures = Pictures(recipe, "exam", EXAM_SIZE)
    return [pictures(step) for step in range(max(1, recipe.exam_scenes // EXAM_SIZE))]


@torch.no_grad()
def examine(model: Any, teacher: Teacher, sheet: list[Batch], shop: Workshop) -> dict[str, float]:
    """The mean marks over the sheet."""
    totals: dict[str, float] = {}
    for batch in sheet:
        with autocast(shop.device):
            truth = {name: tensor.to(shop.device) for name, tensor in batch.items()}
            seen = look(model, truth["pixels"])
            marks = teacher.marks(seen, project(model, seen.found), truth)
        for name, share in marks.items():
            totals[name] = totals.get(name, 0.0) + share / len(sheet)
    return totals
