"""Makes the batches of the language model's stage: query targets, prompts and labels for scenes that are not rendered.

Some scenes are photographs, some are composed for questions about general names, and in a run that continues a model
half are those of its reports. Must not import `architecture`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from training.model import targets
from training.model.targets import COUNT_QUERY, FACTORS, IGNORE_INDEX
from training.recipe import Recipe
from training.scenes.colours import WHITE
from training.scenes.everyday import NAMES
from training.scenes.groups import sample_group_scene
from training.scenes.layouts import Box
from training.scenes.mixture import ood_scene, sample_scene
from training.scenes.scene import Scene, SceneObject
from training.stages.batches import ANSWER_CODES, PLAIN_CODES, SAMPLE_KINDS, Batch, TextResources, text_batch
from training.stages.loop import STORED_NAMES
from training.stages.reports import report_scene
from training.tasks.samples import SampleKind

SPLIT = STORED_NAMES["language_model"]
SINGLE_KINDS: tuple[SampleKind, ...] = ("short", "long", "short")
ENGLISH_SHARE, SINGLE_SHARE = 0.05, 0.2
"""The shares of the steps, at the stage's beginning, with English only and with single questions only."""

REPORT_SHARE = 0.5
"""The share of the samples that read a report of rendered scenes, in a run from an initial model."""

PHOTOGRAPH_SHARE, UNKNOWN_SHARE = 0.1, 0.2
"""The share of new scenes that are photographs, and of those that show nothing known."""

GROUP_SHARE = 0.7
"""The share of new scenes of everyday objects that are composed for questions about general names."""

GROUP_REPORT_SHARE = 0.5
"""The share of those among the reports that samples read, if there are any."""

DOUBT_SHARE, MAX_DOUBT = 0.3, 0.45
"""The share of new scenes whose codes are blended with those of similar concepts, and the largest weight of those."""


@dataclass(frozen=True)
class TextBatches:
    """Makes the stage's batches: query targets, prompts and labels for new scenes, which are not rendered."""

    recipe: Recipe
    text: TextResources
    reports: int = 0
    """The number of reports that samples may read."""

    similar: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The kinds that are like each kind, all as options of the factor "kind"."""

    def __call__(self, step: int) -> Batch:
        """The batch of `step`. All its samples are of one kind, since dialogues are longer than single questions."""
        schedule, seed = self.recipe.language_model, self.recipe.seed
        rng = random.Random(f"text/{seed}/{step}")
        progress = step / schedule.steps
        first = step * schedule.batch
        scenes = [_text_scene(seed, first + i, rng) for i in range(schedule.batch)]
        report_indices = [self._sample_report(rng) for _ in scenes]
        for i, index in enumerate(report_indices):
            if index >= 0:
                scenes[i] = report_scene(self.recipe, index)
        is_beginning = not self.reports
        codes = ANSWER_CODES if is_beginning else PLAIN_CODES
        codes = ("en",) if is_beginning and progress < ENGLISH_SHARE else codes
        kinds = SINGLE_KINDS if is_beginning and progress < SINGLE_SHARE else SAMPLE_KINDS
        samples = text_batch(scenes, rng, kind=kinds[step % len(kinds)], text=self.text, codes=codes)
        query_targets = sample_query_targets(scenes, rng)
        doubts = [rng.uniform(0, MAX_DOUBT) if rng.random() < DOUBT_SHARE else 0.0 for _ in scenes]
        return {
            "query_targets": query_targets,
            "doubtful_targets": self._similar_targets(query_targets, rng),
            "doubts": torch.tensor(doubts),
            "photographs": torch.tensor([float(scene.photograph) for scene in scenes]),
            "reports": torch.tensor(report_indices),
            **samples,
        }

    def _sample_report(self, rng: random.Random) -> int:
        """The index of a random report, or -1 for a sample that reads none."""
        if not self.reports or rng.random() >= REPORT_SHARE:
            return -1
        first_group = min(self.recipe.reports, self.reports)
        is_group = first_group < self.reports and rng.random() < GROUP_REPORT_SHARE
        return rng.randrange(first_group, self.reports) if is_group else rng.randrange(first_group)

    def _similar_targets(self, query_targets: Tensor, rng: random.Random) -> Tensor:
        """The targets with another, similar kind in place of each kind."""
        similar_targets = query_targets.clone()
        for scene_targets in similar_targets[..., 0]:
            for kind in set(scene_targets.tolist()) - {0, IGNORE_INDEX}:
                others = self.similar.get(kind) or (rng.randrange(1, FACTORS["kind"]),)
                scene_targets[scene_targets == kind] = -rng.choice(others) - 1000
        replaced = similar_targets[..., 0] <= -1000
        similar_targets[..., 0][replaced] = -similar_targets[..., 0][replaced] - 1000
        return similar_targets


def _text_scene(seed: int, index: int, rng: random.Random) -> Scene:
    """The scene number `index` of the stage, or a photograph of one thing or of nothing known."""
    if rng.random() >= PHOTOGRAPH_SHARE:
        scene = sample_scene(seed, index, split=SPLIT)
        is_everyday = scene.objects and not scene.flat
        return sample_group_scene(rng) if is_everyday and rng.random() < GROUP_SHARE else scene
    if rng.random() < UNKNOWN_SHARE:
        return replace(ood_scene("photo"), photograph=rng.random() < 0.5)
    box = Box(48, 48, 64)
    return Scene(96, 96, (WHITE, WHITE), (SceneObject(rng.choice(NAMES), None, box, WHITE),), photograph=True)


def sample_query_targets(scenes: Sequence[Scene], rng: random.Random) -> Tensor:
    """The scenes' query targets. A side without a clear object gets any object, as the Q-Former also predicts one."""
    query_targets = np.stack([targets.query_targets(scene) for scene in scenes])
    for scene_targets, scene in zip(query_targets, scenes, strict=True):
        for side in scene_targets[COUNT_QUERY + 1 :]:
            if side[0] == IGNORE_INDEX and scene.objects:
                side[:2] = scene_targets[rng.randrange(len(scene.objects)), :2]
    return torch.from_numpy(query_targets)
