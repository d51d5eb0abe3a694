"""The third stage: patches and queries together, on fresh pictures.

Here the patches first learn what the queries need of them: counting asks for one clear mark a thing. The heads that
read the queries rest, so what the queries say keeps its meaning.
"""

from __future__ import annotations

from torch import Tensor

from training.batches import Batch, Pictures
from training.network import look, project
from training.stages import Stage, Workshop, run
from training.vision import exam_sheet, examine, eyes, restored

NAME = "sight"


def teach(shop: Workshop, *, vocabulary: int) -> None:
    """Run the stage to its end, or go on with it."""
    recipe = shop.recipe
    model, teacher = restored(shop, vocabulary=vocabulary, stage="queries")
    sheet = exam_sheet(recipe)

    def learn(batch: Batch) -> Tensor:
        seen = look(model, batch["pixels"])
        return teacher.loss(seen, project(model, seen.found), batch)

    run(
        Stage(
            name=NAME,
            schedule=recipe.sight,
            modules={"model": model, "teacher": teacher},
            groups=[{"params": [*eyes(model), *teacher.patch.parameters(), *teacher.silhouette.parameters()]}],
            batches=Pictures(recipe, NAME, recipe.sight.batch),
            learn=learn,
            examine=lambda: examine(model, teacher, sheet, shop),
        ),
        shop,
    )
