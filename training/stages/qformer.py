"""The second stage trains the Q-Former and the vision encoder on query and patch targets."""

from __future__ import annotations

from torch import Tensor

from training.model.architecture import VisionOutputs, encode_images, run_qformer
from training.stages import distributed
from training.stages.batches import Batch, ImageBatches
from training.stages.loop import STORED_NAMES, Stage, TrainingContext, train
from training.stages.vision_encoder import evaluation_batches, image_groups, mean_scores, restore_modules

NAME = "qformer"


def train_qformer(context: TrainingContext, *, vocabulary: int) -> None:
    """Run or resume the stage."""
    recipe, schedule = context.recipe, context.recipe.qformer
    model, heads = restore_modules(context, vocabulary=vocabulary, stage="vision_encoder")
    renderer = context.renderer()
    evaluation_set = evaluation_batches(recipe, renderer)

    def loss(batch: Batch) -> Tensor:
        outputs = encode_images(model, batch["pixels"])
        return heads.loss(outputs, run_qformer(model, outputs), batch)

    def scores(outputs: VisionOutputs, expected: Batch) -> dict[str, float]:
        which = heads.patch_scores(outputs, expected)["which"]
        return heads.query_scores(run_qformer(model, outputs), expected) | {"object of a patch": which}

    train(
        Stage(
            name=NAME,
            schedule=schedule,
            modules={"model": model, "teacher": heads},
            parameter_groups=image_groups(model, heads),
            batches=ImageBatches(recipe, renderer, STORED_NAMES[NAME], schedule.batch, shard=distributed.shard()),
            loss=loss,
            evaluate=lambda: mean_scores(model, evaluation_set, context, scores),
        ),
        context,
    )
