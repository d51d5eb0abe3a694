"""Batches of pictures, targets and lessons, made in a worker process while the model learns from the last one.

A batch is a function of the recipe, the stage and the step's number alone, so a run that was stopped goes on as if it
had not been. Knows numpy and tensors; knows no network.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicon, language_codes
from training.model import question_targets, targets
from training.model.targets import CELLS, UNASKED
from training.recipe import Recipe
from training.scenes.mixture import SceneRenderer, sample_scene
from training.scenes.scene import Scene
from training.stages.distributed import Part
from training.tasks.samples import Sample, SampleKind, make_sample

Batch = dict[str, Tensor]
LONGEST_PROMPT, LONGEST_ANSWER = 90, 40
CROWDS = (2, 4, 4, 5, 6, 9, 9)

SPOKEN = ("en",) * 7 + tuple(GRAMMARS) + language_codes()
"""What lessons are answered in: English nine times as often as most, and what has a grammar here twice."""

KINDS: tuple[SampleKind, ...] = ("short", "dialogue", "short", "long", "dialogue")
"""The lessons of one batch are of one kind, so that all are about as long; the kinds take turns."""


@dataclass(frozen=True)
class Words:
    """What lessons are worded with, and what turns them into numbers."""

    tokenizer: Any
    lexicons: Mapping[str, Lexicon]


@dataclass(frozen=True)
class Pictures:
    """Batches of fresh scenes for a stage: pixels, targets, and lessons where there are words."""

    recipe: Recipe
    world: SceneRenderer
    split: str
    size: int
    words: Words | None = None
    part: Part = (0, 1)
    """Which share of every batch is made: that of one process of several."""

    crowds_until: int = 0
    """Up to this step scenes are crowds: each thing is a lesson in its shape, so many things are many lessons."""

    def __call__(self, step: int) -> Batch:
        """The batch of that number."""
        seed, sizes = self.recipe.seed, self.recipe.sizes
        numbers = CROWDS if step < self.crowds_until else ()
        rank, processes = self.part
        indices = range(step * self.size, (step + 1) * self.size)[rank::processes]
        scenes = [sample_scene(seed, index, split=self.split, numbers=numbers) for index in indices]
        pixels, covers = self.drawn(scenes, step)
        batch = {"pixels": pixels, **asked(scenes, covers, sizes.image // sizes.patch)}
        if self.words:
            rng = random.Random(f"{self.split}-words/{seed}/{step}/{rank}")
            batch |= taught(scenes, rng, kind=KINDS[step % len(KINDS)], words=self.words)
        return batch

    def drawn(self, scenes: Sequence[Scene], step: int) -> tuple[Tensor, Tensor]:
        """The pictures of the scenes, as bytes (N, side, side, 3), and what things cover of them, (N, side, side)."""
        side, seed = self.recipe.sizes.image, f"{self.split}/{self.recipe.seed}/{step}/{self.part[0]}"
        pictures, covers = zip(
            *(self.world.render(one, side=side, seed=f"{seed}/{i}") for i, one in enumerate(scenes)), strict=True
        )
        return torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(covers))


def taught(
    scenes: Sequence[Scene], rng: random.Random, *, kind: SampleKind, words: Words, codes: Sequence[str] = SPOKEN
) -> Batch:
    """A lesson on each scene: `prompt` and its `mask`, `labels` (UNASKED where there is none), and the `meaning`."""
    lessons = [
        teach(scenes, index, rng, kind=kind, lexicons=words.lexicons, codes=codes) for index in range(len(scenes))
    ]
    tokenizer = words.tokenizer
    prompts = [tokenizer(one.prompt).input_ids[-LONGEST_PROMPT:] for one in lessons]
    answers = [tokenizer(one.answer).input_ids[:LONGEST_ANSWER] for one in lessons]
    ids = _padded(prompts, tokenizer.pad_token_id)
    return {
        "prompt": ids,
        "mask": (ids != tokenizer.pad_token_id).long(),
        "labels": _padded(answers, UNASKED),
        "meaning": torch.tensor(
            [question_targets.of(one.newest, scene) for one, scene in zip(lessons, scenes, strict=True)]
        ),
    }


def teach(
    scenes: Sequence[Scene],
    index: int,
    rng: random.Random,
    *,
    kind: SampleKind,
    lexicons: Mapping[str, Lexicon],
    codes: Sequence[str] = SPOKEN,
) -> Sample:
    """A lesson on one of the scenes; the next one lends wrong answers."""
    return make_sample(
        scenes[index], rng, kind=kind, lexicons=lexicons, codes=codes, distractor=scenes[(index + 1) % len(scenes)]
    )


def asked(scenes: Sequence[Scene], covers: Tensor, grid: int) -> Batch:
    """What is to be seen in scenes: see `targets`, and each patch's silhouette."""
    found = [targets.of(one, grid=grid) for one in scenes]
    cell = covers.shape[-1] // (grid * CELLS)
    masks = nn.functional.avg_pool2d(covers.float(), cell) / 255
    cells = masks.reshape(len(scenes), grid, CELLS, grid, CELLS).transpose(2, 3)
    return {
        "report": torch.from_numpy(np.stack([one.report for one in found])),
        "patches": torch.from_numpy(np.stack([one.patches for one in found])),
        "silhouettes": cells.reshape(len(scenes), grid * grid, -1),
    }


def stream(make_batch: Callable[[int], Any], *, first: int, last: int, workers: int) -> Iterator[Any]:
    """Batches `first` to `last`, made ahead in worker processes (or here, where `workers` is 0)."""
    numbers = _Numbered(make_batch, first, last)
    yield from DataLoader(numbers, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None)


class _Numbered(Dataset[Any]):
    """Batches by number, in the shape that a DataLoader wants."""

    def __init__(self, make_batch: Callable[[int], Any], first: int, last: int) -> None:
        self.make_batch, self.first, self.last = make_batch, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> Any:
        torch.set_num_threads(1)
        return self.make_batch(self.first + index)


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *([filler] * (longest - len(row)))] for row in rows])
