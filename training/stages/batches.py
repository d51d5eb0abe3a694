"""Batches of images, targets and samples, made in worker processes during training.

A batch depends only on recipe, stage and step, so a resumed run gets the same images; it gets the same texts only if
`PYTHONHASHSEED` is the same, as `tasks.dialogues` chooses from sets of strings. Must not import `architecture`.
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

from training.lexicon import GRAMMARS, plain
from training.lexicon.lexicon import Lexicons, language_codes
from training.model.question_targets import object_targets, question_targets
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
"""The language of an answer is drawn from this list: English is nine times in it, others with a grammar twice."""

PLAIN_CODES = ("en",) * 5 + tuple(plain.wordings()) * 3 + language_codes()
"""The list for a run that continues a model, of which a third are the languages with tables of plain nouns."""

SAMPLE_KINDS: tuple[SampleKind, ...] = ("short", "dialogue", "short", "long", "dialogue")
"""The kinds of samples, which batches take in turn. A batch has one kind, so that its samples have similar lengths."""


@dataclass(frozen=True)
class TextResources:
    """What is needed to make the text of samples: the tokenizer and every language's lexicon."""

    tokenizer: Any
    lexicons: Lexicons


@dataclass(frozen=True)
class ImageBatches:
    """Makes a stage's batches of `size` new scenes: pixels, targets, and a sample of each scene if `text` is given."""

    recipe: Recipe
    renderer: SceneRenderer
    split: str
    size: int
    text: TextResources | None = None
    shard: Shard = (0, 1)
    """In data-parallel training, the part of every batch that this process makes."""

    crowded_until: int = 0
    """Before this step scenes have more objects, since every object is a training example of its kind."""

    def __call__(self, step: int) -> Batch:
        """The batch of `step`."""
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
        """The scenes' images (N, side, side, 3), and how much of each pixel objects cover (N, side, side), as bytes."""
        side, seed = self.recipe.sizes.image, f"{self.split}/{self.recipe.seed}/{step}/{self.shard[0]}"
        pairs = [self.renderer.render(scene, side=side, seed=f"{seed}/{i}") for i, scene in enumerate(scenes)]
        images, coverages = zip(*pairs, strict=True)
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(coverages))


def text_batch(
    scenes: Sequence[Scene], rng: random.Random, *, kind: SampleKind, text: TextResources, codes: Sequence[str]
) -> Batch:
    """A sample of each scene: `prompt` ids and their `mask`, `labels` padded with IGNORE_INDEX, `question_targets` and
    `object_targets`."""
    tokenizer, lexicons = text.tokenizer, text.lexicons
    samples = [scene_sample(scenes, i, rng, kind=kind, lexicons=lexicons, codes=codes) for i in range(len(scenes))]
    prompts = [tokenizer(sample.prompt).input_ids[-MAX_PROMPT_TOKENS:] for sample in samples]
    answers = [tokenizer(sample.answer).input_ids[:MAX_ANSWER_TOKENS] for sample in samples]
    ids = _pad(prompts, tokenizer.pad_token_id)
    pairs = [(sample.newest, scene) for sample, scene in zip(samples, scenes, strict=True)]
    return {
        "prompt": ids,
        "mask": (ids != tokenizer.pad_token_id).long(),
        "labels": _pad(answers, IGNORE_INDEX),
        "question_targets": torch.tensor([question_targets(*pair) for pair in pairs]),
        "object_targets": torch.tensor([object_targets(*pair) for pair in pairs]),
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
    """A sample of the scene `scenes[index]`; the next scene is its distractor."""
    scene, distractor = scenes[index], scenes[(index + 1) % len(scenes)]
    return make_sample(scene, rng, kind=kind, lexicons=lexicons, codes=codes, distractor=distractor)


def target_batch(scenes: Sequence[Scene], coverages: Tensor, grid: int) -> Batch:
    """The scenes' targets (see `training.model.targets`), and the coverage of patches, 0 to 1, (N, patches, cells)."""
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
    """Yield the batches of steps `first` to `last` (exclusive), made ahead by `workers` processes (0: by this one)."""
    dataset = _BatchDataset(make_batch, first, last)
    yield from DataLoader(dataset, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None)


class _BatchDataset(Dataset[Any]):
    """A dataset for a DataLoader: its item `index` is the batch of step `first + index`."""

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
