"""Batches of pictures, targets and lessons, made in a worker process while the model learns from the last one.

A batch is a function of the recipe, the stage and the step's number alone, so a run that was stopped goes on as if it
had not been. Knows numpy and tensors; knows no network.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training import drawing, meaning, targets
from training.lessons import Kind, Lesson, lesson
from training.recipe import Recipe
from training.scenes import Scene, make
from training.targets import CELLS, UNASKED
from training.words import TONGUES

Batch = dict[str, Tensor]
LONGEST_PROMPT, LONGEST_ANSWER = 100, 48
CROWDS = (4, 5, 6, 9, 9, 12, 16)

SPOKEN = ("en", *TONGUES)
"""What lessons are answered in; English has twice the others' share."""

KINDS: tuple[Kind, ...] = ("short", "talk", "long", "talk")
"""The lessons of one batch are of one kind, so that all are about as long; the kinds take turns."""


@dataclass(frozen=True)
class Pictures:
    """Batches of fresh scenes for a stage: pixels, targets, and lessons where a tokenizer is given."""

    recipe: Recipe
    split: str
    size: int
    tokenizer: Any = None
    crowds_until: int = 0
    """Up to this step scenes are crowds: each thing is a lesson in its shape, so many things are many lessons."""

    def __call__(self, step: int) -> Batch:
        """The batch of that number."""
        seed, sizes = self.recipe.seed, self.recipe.sizes
        numbers = CROWDS if step < self.crowds_until else ()
        indices = range(step * self.size, (step + 1) * self.size)
        scenes = [make(seed, index, split=self.split, numbers=numbers) for index in indices]
        batch = {"pixels": self.drawn(scenes, step), **asked(scenes, sizes.image // sizes.patch)}
        if self.tokenizer:
            draw = random.Random(f"{self.split}-words/{seed}/{step}")
            batch |= taught(scenes, draw, kind=KINDS[step % len(KINDS)], tokenizer=self.tokenizer)
        return batch

    def drawn(self, scenes: Sequence[Scene], step: int) -> Tensor:
        """The pictures of the scenes, as bytes (N, side, side, 3)."""
        side, seed = self.recipe.sizes.image, f"{self.split}/{self.recipe.seed}/{step}"
        pictures = [drawing.pixels(scene, side=side, seed=f"{seed}/{i}") for i, scene in enumerate(scenes)]
        return torch.from_numpy(np.stack(pictures))


def taught(
    scenes: Sequence[Scene], draw: random.Random, *, kind: Kind, tokenizer: Any, codes: Sequence[str] = SPOKEN
) -> Batch:
    """A lesson on each scene: `prompt` and its `mask`, `labels` (UNASKED where there is none), and the `meaning`."""
    lessons = [teach(scenes, index, draw, kind=kind, codes=codes) for index in range(len(scenes))]
    prompts = [tokenizer(one.prompt).input_ids[-LONGEST_PROMPT:] for one in lessons]
    answers = [tokenizer(one.answer).input_ids[:LONGEST_ANSWER] for one in lessons]
    ids = _padded(prompts, tokenizer.pad_token_id)
    return {
        "prompt": ids,
        "mask": (ids != tokenizer.pad_token_id).long(),
        "labels": _padded(answers, UNASKED),
        "meaning": torch.tensor([meaning.of(one.newest, scene) for one, scene in zip(lessons, scenes, strict=True)]),
    }


def teach(
    scenes: Sequence[Scene], index: int, draw: random.Random, *, kind: Kind, codes: Sequence[str] = SPOKEN
) -> Lesson:
    """A lesson on one of the scenes; the next one lends wrong answers."""
    return lesson(scenes[index], draw, kind=kind, codes=codes, other=scenes[(index + 1) % len(scenes)])


def asked(scenes: Sequence[Scene], grid: int) -> Batch:
    """What is to be seen in scenes: see `targets`, and each patch's silhouette."""
    found = [targets.of(scene, grid=grid) for scene in scenes]
    masks = np.stack([drawing.silhouette(scene, grid * CELLS) for scene in scenes])
    cells = masks.reshape(len(scenes), grid, CELLS, grid, CELLS).swapaxes(2, 3)
    return {
        "report": torch.from_numpy(np.stack([one.report for one in found])),
        "patches": torch.from_numpy(np.stack([one.patches for one in found])),
        "silhouettes": torch.from_numpy(cells.reshape(len(scenes), grid * grid, -1)).float() / 255,
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
