"""The first stage trains the vision encoder alone, with patch losses, on crowded scenes first.

The Q-Former is trained later: if the patches are untrained, its queries learn to predict "none" and do not recover.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration

from training.model.architecture import AuxiliaryHeads, VisionOutputs, build, encode_images, parameter_groups
from training.model.extension import extend_weights
from training.model.vocabulary import word_meanings
from training.recipe import Recipe
from training.scenes.mixture import SceneRenderer
from training.stages import checkpoints, distributed
from training.stages.batches import Batch, ImageBatches
from training.stages.loop import STORED_NAMES, Stage, TrainingContext, autocast, train
from training.stages.tokenizer import load_tokenizer

NAME = "vision_encoder"
CROWDED_SHARE = 0.65
"""The share of the steps, at the stage's beginning, with crowded scenes; later scenes are those of the mixture."""

EVALUATION_BATCH = 64
Scores = Callable[[VisionOutputs, Batch], dict[str, float]]


def train_vision_encoder(context: TrainingContext, *, vocabulary: int) -> None:
    """Run or resume the stage."""
    recipe, schedule = context.recipe, context.recipe.vision_encoder
    model, heads = new_modules(context, vocabulary=vocabulary)
    renderer = context.renderer()
    evaluation_set = evaluation_batches(recipe, renderer)
    split, until = STORED_NAMES[NAME], round(schedule.steps * CROWDED_SHARE)
    batches = ImageBatches(recipe, renderer, split, schedule.batch, shard=distributed.shard(), crowded_until=until)

    def loss(batch: Batch) -> Tensor:
        return heads.patch_loss(encode_images(model, batch["pixels"]), batch)

    train(
        Stage(
            name=NAME,
            schedule=schedule,
            modules={"model": model, "teacher": heads},
            parameter_groups=parameter_groups(model.vision_model, heads),
            batches=batches,
            loss=loss,
            evaluate=lambda: mean_scores(model, evaluation_set, context, heads.patch_scores),
        ),
        context,
    )


def new_modules(context: TrainingContext, *, vocabulary: int) -> tuple[Any, AuxiliaryHeads]:
    """A new model, or the run's initial model if it has one, and new auxiliary heads, on the context's device."""
    model = build(context.recipe.sizes, vocabulary=vocabulary, seed=context.recipe.seed).to(context.device)
    if context.initial_model:
        trained = Blip2ForConditionalGeneration.from_pretrained(context.initial_model, dtype=torch.float32)
        weights = extend_weights(trained.state_dict(), load_tokenizer(context), word_meanings(context.sources))
        model.load_state_dict(weights)
    return model, AuxiliaryHeads(context.recipe.sizes).to(context.device)


def restore_modules(context: TrainingContext, *, vocabulary: int, stage: str) -> tuple[Any, AuxiliaryHeads]:
    """The model and heads of a stage's checkpoint, or of `new_modules` if a run from an initial model has none."""
    model, heads = new_modules(context, vocabulary=vocabulary)
    if context.initial_model and not checkpoints.load_checkpoint(context.checkpoint_path(stage)):
        return model, heads
    modules = saved_modules(context, stage)
    model.load_state_dict(modules["model"])
    if "teacher" in modules:
        heads.load_state_dict(modules["teacher"])
    return model, heads


def saved_modules(context: TrainingContext, stage: str) -> dict[str, Any]:
    """The weights of each module in a stage's checkpoint. Raises `SystemExit` if there is none."""
    state = checkpoints.load_checkpoint(context.checkpoint_path(stage))
    if not state:
        raise SystemExit(f"The stage {stage} has no checkpoint: run `python -m training {stage}` first.")
    modules: dict[str, Any] = state["modules"]
    return modules


def image_groups(model: Any, heads: AuxiliaryHeads) -> list[dict[str, Any]]:
    """Optimizer groups of all parameters before the language model, and of the auxiliary heads."""
    layers = parameter_groups(model.vision_model, model.qformer, model.language_projection, heads)
    return [*layers, {"params": [model.query_tokens]}]


def evaluation_batches(recipe: Recipe, renderer: SceneRenderer) -> list[Batch]:
    """The batches of held-out scenes on which a stage is evaluated."""
    batches = ImageBatches(recipe, renderer, "exam", EVALUATION_BATCH)
    return [batches(step) for step in range(max(1, recipe.evaluation_scenes // EVALUATION_BATCH))]


@torch.no_grad()
def mean_scores(model: Any, evaluation_set: list[Batch], context: TrainingContext, scores: Scores) -> dict[str, float]:
    """The mean of each score over the batches of `evaluation_set`; `scores` computes those of one batch."""
    totals: dict[str, float] = {}
    for batch in evaluation_set:
        with autocast(context.device):
            on_device = {name: tensor.to(context.device) for name, tensor in batch.items()}
            batch_scores = scores(encode_images(model, on_device["pixels"]), on_device)
        for name, share in batch_scores.items():
            totals[name] = totals.get(name, 0.0) + share / len(evaluation_set)
    return totals
