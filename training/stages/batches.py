"""Batches of images, targets and samples, made in worker processes during training.

A batch is a function of the recipe, the stage and the step alone, so a resumed run gets the same batches. Must not
import `architecture`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicons, language_codes
from training.model.question_targets import question_targets
from training.model.targets import CELLS, IGNORE_INDEX, scene_targets
from training.recipe import Recipe
from training.scenes.mixture import SceneRenderer, sample_scene
from training.scenes.scene import Scene
from training.stages.distributed import Shard
from training.tasks.samples import Sample, SampleKind, make_sample

Batch = dict[str, Tensor]
MAX_PROMPT_TOKENS, MAX_ANSWER_TOKENS = 90, 40
CROWDED_NUMBERS = (2, 4, 4, 5, 6, 9, 9)

ANSWER_CODES = ("en",) * 7 + tuple(GRAMMARS) + language_codes()
"""The languages of answers: English nine times as often as most, others that have a grammar twice."""

SAMPLE_KINDS: tuple[SampleKind, ...] = ("short", "dialogue", "short", "long", "dialogue")
"""The samples of one batch are of one kind, so that they have similar lengths; the kinds alternate."""


@dataclass(frozen=True)
class TextResources:
    """What the text of samples needs: the tokenizer and every language's lexicon."""

    tokenizer: Any
    lexicons: Lexicons


@dataclass(frozen=True)
class ImageBatches:
    """Batches of new scenes for a stage: pixels, targets, and samples if there is `text`."""

    recipe: Recipe
    renderer: SceneRenderer
    split: str
    size: int
    text: TextResources | None = None
    shard: Shard = (0, 1)
    """The part of every batch to make, in data-parallel training."""

    crowded_until: int = 0
    """Before this step scenes are crowded: every object is a training example of its kind."""

    def __call__(self, step: int) -> Batch:
        """The batch of that step."""
        seed, sizes = self.recipe.seed, self.recipe.sizes
        numbers = CROWDED_NUMBERS if step < self.crowded_until else ()
        rank, processes = self.shard
        indices = range(step * self.size, (step + 1) * self.size)[rank::processes]
        scenes = [sample_scene(seed, index, split=self.split, numbers=numbers) for index in indices]
        pixels, coverages = self.render(scenes, step)
        batch = {"pixels": pixels, **target_batch(scenes, coverages, sizes.image // sizes.patch)}
        if self.text:
            rng = random.Random(f"{self.split}-words/{seed}/{step}/{rank}")
            kind = SAMPLE_KINDS[step % len(SAMPLE_KINDS)]
            batch |= text_batch(scenes, rng, kind=kind, text=self.text, codes=ANSWER_CODES)
        return batch

    def render(self, scenes: Sequence[Scene], step: int) -> tuple[Tensor, Tensor]:
        """The images of the scenes, as bytes (N, side, side, 3), and their objects' coverage, (N, side, side)."""
        side, seed = self.recipe.sizes.image, f"{self.split}/{self.recipe.seed}/{step}/{self.shard[0]}"
        pairs = [self.renderer.render(scene, side=side, seed=f"{seed}/{i}") for i, scene in enumerate(scenes)]
        images, coverages = zip(*pairs, strict=True)
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(coverages))


def text_batch(
    scenes: Sequence[Scene], rng: random.Random, *, kind: SampleKind, text: TextResources, codes: Sequence[str]
) -> Batch:
    """A sample of each scene: `prompt`, its `mask`, `labels` (IGNORE_INDEX as padding), and the `question_targets`."""
    tokenizer, lexicons = text.tokenizer, text.lexicons
    samples = [scene_sample(scenes, i, rng, kind=kind, lexicons=lexicons, codes=codes) for i in range(len(scenes))]
    prompts = [tokenizer(sample.prompt).input_ids[-MAX_PROMPT_TOKENS:] for sample in samples]
    answers = [tokenizer(sample.answer).input_ids[:MAX_ANSWER_TOKENS] for sample in samples]
    ids = _pad(prompts, tokenizer.pad_token_id)
    targets = [question_targets(sample.newest, scene) for sample, scene in zip(samples, scenes, strict=True)]
    return {
        "prompt": ids,
        "mask": (ids != tokenizer.pad_token_id).long(),
        "labels": _pad(answers, IGNORE_INDEX),
        "question_targets": torch.tensor(targets),
    }


def scene_sample(
    scenes: Sequence[Scene],
    index: int,
    rng: random.Random,
    *,
    kind: SampleKind,
    lexicons: Lexicons,
    codes: Sequence[str],
) -> Sample:
    """A sample of one of the scenes; the next one is its distractor."""
    scene, distractor = scenes[index], scenes[(index + 1) % len(scenes)]
    return make_sample(scene, rng, kind=kind, lexicons=lexicons, codes=codes, distractor=distractor)


def target_batch(scenes: Sequence[Scene], coverages: Tensor, grid: int) -> Batch:
    """The scenes' targets, see `training.model.targets`, and each patch's coverage."""
    targets = [scene_targets(scene, grid=grid) for scene in scenes]
    cell_size = coverages.shape[-1] // (grid * CELLS)
    masks = nn.functional.avg_pool2d(coverages.float(), cell_size) / 255
    cells = masks.reshape(len(scenes), grid, CELLS, grid, CELLS).transpose(2, 3)
    return {
        "query_targets": torch.from_numpy(np.stack([one.queries for one in targets])),
        "patch_targets": torch.from_numpy(np.stack([one.patches for one in targets])),
        "coverage": cells.reshape(len(scenes), grid * grid, -1),
    }


def prefetch(make_batch: Callable[[int], Any], *, first: int, last: int, workers: int) -> Iterator[Any]:
    """Batches `first` to `last` (exclusive), made ahead in worker processes, or in this one if `workers` is 0."""
    dataset = _BatchDataset(make_batch, first, last)
    yield from DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None)


class _BatchDataset(Dataset[Any]):
    """Batches by step, as a DataLoader's dataset."""

    def __init__(self, make_batch: Callable[[int], Any], first: int, last: int) -> None:
        self.make_batch, self.first, self.last = make_batch, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Any:
        torch.set_num_threads(1)
        return self.make_batch(self.first + index)


def _pad(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *([padding] * (length - len(row)))] for row in rows])
