"""The last stage trains the complete model on images and samples, still with the auxiliary losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.model.architecture import encode_images, image_features, parameter_groups, run_qformer
from training.stages import checkpoints, distributed, language_model
from training.stages.batches import Batch, ImageBatches, TextResources
from training.stages.language_model import LanguageEvaluation, language_model_groups, language_model_loss
from training.stages.loop import Stage, TrainingContext, train
from training.stages.vision_encoder import image_groups, restore_modules

NAME = "joint"
AUXILIARY_WEIGHT = 0.3


def train_joint(context: TrainingContext, *, tokenizer: Any) -> None:
    """Run or resume the stage."""
    recipe = context.recipe
    model, heads = restore_modules(context, vocabulary=len(tokenizer), stage="qformer")
    text_model, _ = restore_modules(context, vocabulary=len(tokenizer), stage="language_model")
    model.language_model.load_state_dict(text_model.language_model.state_dict())
    question_head = language_model.load_question_head(context)
    renderer, text = context.renderer(), TextResources(tokenizer, context.lexicons())
    evaluation = LanguageEvaluation(recipe, text)
    batches = ImageBatches(recipe, renderer, "exam", len(evaluation.scenes))
    images = batches.render(evaluation.scenes, 0)[0].to(context.device)
    groups = [*language_model_groups(model), *image_groups(model, heads), *parameter_groups(question_head)]

    def loss(batch: Batch) -> Tensor:
        outputs = encode_images(model, batch["pixels"])
        features = run_qformer(model, outputs)
        auxiliary_loss = heads.loss(outputs, features, batch)
        return language_model_loss(model, question_head, features, batch) + AUXILIARY_WEIGHT * auxiliary_loss

    train(
        Stage(
            name=NAME,
            schedule=recipe.joint,
            modules={"model": model, "teacher": heads, "grasp": question_head},
            parameter_groups=groups,
            batches=ImageBatches(recipe, renderer, NAME, recipe.joint.batch, text=text, shard=distributed.shard()),
            loss=loss,
            evaluate=torch.no_grad()(lambda: evaluation(model, image_features(model, images))),
        ),
        context,
    )


def latest(context: TrainingContext) -> str:
    """The latest stage that has a checkpoint of the complete model: `joint`, `qformer` or else `vision_encoder`.

    From an initial model it may be `language_model`, whose checkpoint then has that model's vision encoder.
    """
    complete = (NAME, language_model.NAME) if context.initial_model else (NAME, "qformer")
    done = (name for name in complete if checkpoints.load_checkpoint(context.checkpoint_path(name)))
    return next(done, "vision_encoder")
