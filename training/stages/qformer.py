"""The second stage: the queries learn to report what the patches show, and the patches to show what reports need."""

from __future__ import annotations

from torch import Tensor

from training.model.architecture import Look, look, report
from training.stages import distributed
from training.stages.batches import Batch, Pictures
from training.stages.loop import Stage, Workshop, run
from training.stages.vision_encoder import exam_sheet, examine, eye_groups, restored

NAME = "sight"


def teach(shop: Workshop, *, vocabulary: int) -> None:
    """Run the stage to its end, or go on with it."""
    recipe = shop.recipe
    model, teacher = restored(shop, vocabulary=vocabulary, stage="vision")
    world = shop.world()
    sheet = exam_sheet(recipe, world)

    def learn(batch: Batch) -> Tensor:
        seen = look(model, batch["pixels"])
        return teacher.loss(seen, report(model, seen), batch)

    def marks(seen: Look, truth: Batch) -> dict[str, float]:
        return teacher.report_marks(report(model, seen), truth) | {
            "which thing a patch shows": teacher.patch_marks(seen, truth)["which"]
        }

    run(
        Stage(
            name=NAME,
            schedule=recipe.sight,
            modules={"model": model, "teacher": teacher},
            groups=eye_groups(model, teacher),
            batches=Pictures(recipe, world, NAME, recipe.sight.batch, part=distributed.part()),
            learn=learn,
            examine=lambda: examine(model, sheet, shop, marks),
        ),
        shop,
    )
