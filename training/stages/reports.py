"""Reports: the image features of rendered scenes, which the language model's stage reads beside encoded targets.

A run from an initial model renders a set of scenes once and stores what that model's Q-Former reports about them, so
its language model keeps answering from reports that are unsure. The first scenes are those of the mixture, the others
are composed for questions about general names (`scenes.groups`). Must not import `tasks`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.model.architecture import image_features
from training.model.codebook import TargetCodebook
from training.model.targets import KINDS
from training.recipe import Recipe
from training.scenes.groups import sample_group_scene
from training.scenes.mixture import sample_scene
from training.scenes.scene import Scene
from training.stages import checkpoints
from training.stages.batches import ImageBatches, prefetch
from training.stages.loop import TrainingContext, autocast

NAME = "reports"
BATCH = 64
NOISE_STD = 0.15
"""The standard deviation of the noise on reports, which keeps the language model from learning them by heart."""

SIMILAR = 5
"""The number of similar kinds of each kind."""


@dataclass(frozen=True)
class Reports:
    """The image features (N, queries, text width) of the first N scenes (see `report_scene`), in bf16."""

    features: Tensor
    similar: Mapping[int, tuple[int, ...]]
    """The kinds that reports of single objects confuse with each kind, as options of the factor "kind"."""

    def replace(self, encoded: Tensor, indices: Tensor) -> Tensor:
        """The features `encoded` (N, queries, text width), with reports in place of those whose index is not -1."""
        chosen = self.features[indices.clamp(min=0).cpu()].to(encoded)
        chosen = chosen + NOISE_STD * torch.randn_like(chosen)
        return torch.where((indices >= 0)[:, None, None], chosen, encoded)


@dataclass(frozen=True)
class ReportBatches:
    """Renders the scenes of the reports, `BATCH` in a step."""

    recipe: Recipe
    images: ImageBatches

    def __call__(self, step: int) -> Tensor:
        """The images of `step`, as bytes (N, side, side, 3)."""
        scenes = [report_scene(self.recipe, index) for index in range(step * BATCH, (step + 1) * BATCH)]
        return self.images.render(scenes, step)[0]


def report_scene(recipe: Recipe, index: int) -> Scene:
    """The scene of the report number `index`."""
    if index < recipe.reports:
        return sample_scene(recipe.seed, index, split=NAME)
    return sample_group_scene(random.Random(f"{NAME}/groups/{recipe.seed}/{index}"))


def load_reports(context: TrainingContext, model: Any) -> Reports:
    """The reports of the recipe's number of scenes; the first call renders the scenes, or resumes a stopped call."""
    recipe, path = context.recipe, context.checkpoint_path(NAME)
    state = checkpoints.load_checkpoint(path)
    parts: list[Tensor] = state["features"] if state else []
    batches = ReportBatches(recipe, ImageBatches(recipe, context.renderer(), NAME, BATCH))
    steps = -(-(recipe.reports + recipe.group_reports) // BATCH)
    for step, batch in enumerate(prefetch(batches, first=len(parts), last=steps, workers=recipe.workers), len(parts)):
        with torch.no_grad(), autocast(context.device):
            parts.append(image_features(model, batch.to(context.device)).bfloat16().cpu())
        if (step + 1) % recipe.report_every == 0 or step + 1 == steps:
            checkpoints.save_checkpoint(path, {"features": parts})
            print(f"{NAME}: {step + 1} of {steps} batches", flush=True)
    features = torch.cat(parts)
    return Reports(features, _similar_kinds(features, recipe, TargetCodebook(features.shape[-1])))


def _similar_kinds(features: Tensor, recipe: Recipe, codebook: TargetCodebook) -> dict[int, tuple[int, ...]]:
    """For each kind, the kinds whose codes the first query has most of in the reports of single objects of the kind."""
    by_kind: dict[int, list[int]] = {}
    for index in range(len(features)):
        scene = report_scene(recipe, index)
        if len(scene.objects) == 1:
            by_kind.setdefault(KINDS.index(scene.objects[0].kind) + 1, []).append(index)
    similar = {}
    for kind, indices in by_kind.items():
        logits = codebook.logits(features[indices, 0].float())[0].mean(dim=0)
        logits[[0, kind]] = -torch.inf
        similar[kind] = tuple(logits.topk(SIMILAR).indices.tolist())
    return similar
