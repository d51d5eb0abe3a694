"""The first stage: the patches alone learn to show what lies where, on crowds first.

The queries wait: those that grow beside patches which show nothing yet learn to answer "none", and stay there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration

from training.model.architecture import Look, Teacher, build, look, parts
from training.recipe import Recipe
from training.scenes.mixture import SceneRenderer
from training.stages import checkpoints, distributed
from training.stages.batches import Batch, Pictures
from training.stages.loop import Stage, Workshop, autocast, run

NAME = "vision"
CROWD_SHARE = 0.65
"""So much of the stage looks at crowds, before it looks at the world as it is."""

EXAM_SIZE = 64


def teach(shop: Workshop, *, vocabulary: int) -> None:
    """Run the stage to its end, or go on with it."""
    recipe, schedule = shop.recipe, shop.recipe.vision
    model, teacher = fresh(shop, vocabulary=vocabulary)
    world = shop.world()
    sheet = exam_sheet(recipe, world)

    def learn(batch: Batch) -> Tensor:
        return teacher.patch_loss(look(model, batch["pixels"]), batch)

    run(
        Stage(
            name=NAME,
            schedule=schedule,
            modules={"model": model, "teacher": teacher},
            groups=parts(model.vision_model, teacher),
            batches=Pictures(
                recipe,
                world,
                NAME,
                recipe.vision.batch,
                part=distributed.part(),
                crowds_until=round(recipe.vision.steps * CROWD_SHARE),
            ),
            learn=learn,
            examine=lambda: examine(model, sheet, shop, teacher.patch_marks),
        ),
        shop,
    )


def fresh(shop: Workshop, *, vocabulary: int) -> tuple[Any, Teacher]:
    """A new model (or the one that the run goes on from) and its teacher, on the workshop's device."""
    model = build(shop.recipe.sizes, vocabulary=vocabulary, seed=shop.recipe.seed).to(shop.device)
    if shop.begin:
        known = Blip2ForConditionalGeneration.from_pretrained(shop.begin, dtype=torch.float32)
        model.load_state_dict(known.state_dict())
    return model, Teacher(shop.recipe.sizes).to(shop.device)


def restored(shop: Workshop, *, vocabulary: int, stage: str) -> tuple[Any, Teacher]:
    """The model and the teacher as a stage left them; or, where it has not run, as a run from weights began."""
    model, teacher = fresh(shop, vocabulary=vocabulary)
    if shop.begin and not checkpoints.load(shop.file(stage)):
        return model, teacher
    modules = modules_of(shop, stage)
    model.load_state_dict(modules["model"])
    if "teacher" in modules:
        teacher.load_state_dict(modules["teacher"])
    return model, teacher


def modules_of(shop: Workshop, stage: str) -> dict[str, Any]:
    """The weights of each module as a stage left them; ends the run with a sentence where the stage has not begun."""
    state = checkpoints.load(shop.file(stage))
    if not state:
        raise SystemExit(f"The {stage} stage has not begun: run `python -m training {stage}` first.")
    modules: dict[str, Any] = state["modules"]
    return modules


def eye_groups(model: Any, teacher: Teacher) -> list[dict[str, Any]]:
    """The parameters that lie before the language model, and the teacher's."""
    layers = parts(model.vision_model, model.qformer, model.language_projection, teacher)
    return [*layers, {"params": [model.query_tokens]}]


def exam_sheet(recipe: Recipe, world: SceneRenderer) -> list[Batch]:
    """Batches of scenes that training never sees."""
    pictures = Pictures(recipe, world, "exam", EXAM_SIZE)
    return [pictures(step) for step in range(max(1, recipe.exam_scenes // EXAM_SIZE))]


@torch.no_grad()
def examine(
    model: Any, sheet: list[Batch], shop: Workshop, marks: Callable[[Look, Batch], dict[str, float]]
) -> dict[str, float]:
    """The mean marks over the sheet."""
    totals: dict[str, float] = {}
    for batch in sheet:
        with autocast(shop.device):
            truth = {name: tensor.to(shop.device) for name, tensor in batch.items()}
            given = marks(look(model, truth["pixels"]), truth)
        for name, share in given.items():
            totals[name] = totals.get(name, 0.0) + share / len(sheet)
    return totals
