"""What a stage's model makes of a fixed set of scenes, computed once, so that the next stage learns the faster.

Knows the cached scenes and their states; knows no words.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training import checkpoints
from training.batches import Pictures, stream
from training.network import normalised, prefix
from training.recipe import Recipe
from training.scenes import Scene, make
from training.stages import Workshop, autocast

SIZE = 64
FEW_SHARE = 0.25
"""So much of the cached scenes, the first of them, holds one or two things."""


def few(recipe: Recipe) -> int:
    """How many cached scenes hold one or two things."""
    return int(recipe.cached_scenes * FEW_SHARE)


def scene(recipe: Recipe, row: int) -> Scene:
    """The scene of that row."""
    return make(recipe.seed, row, split="cached", numbers=(1, 1, 2) if row < few(recipe) else ())


def states(shop: Workshop, model: Any) -> Tensor:
    """The vision model's last states of each cached scene, bf16."""
    return _cached(shop, "states", lambda pictures: model.vision_model(normalised(pictures)).last_hidden_state)


def prefixes(shop: Workshop, model: Any) -> Tensor:
    """The vectors that stand for each cached scene in front of the text, bf16."""
    return _cached(shop, "prefixes", lambda pictures: prefix(model, pictures))


def _cached(shop: Workshop, name: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
    state = checkpoints.load(shop.file(name))
    if state:
        return state["values"]  # type: ignore[no-any-return]  # a checkpoint's values are untyped
    started, parts = time.monotonic(), []
    pictures = _CachedPictures(shop.recipe)
    batches = -(-shop.recipe.cached_scenes // SIZE)
    for batch in stream(pictures, first=0, last=batches, workers=shop.recipe.workers):
        with torch.no_grad(), autocast(shop.device):
            parts.append(compute(batch.to(shop.device)).bfloat16().cpu())
    seconds = time.monotonic() - started
    print(f"{name}: {shop.recipe.cached_scenes} scenes in {seconds:.0f} s", flush=True)
    checkpoints.save(shop.file(name), {"values": torch.cat(parts), "seconds": seconds})
    return torch.cat(parts)


@dataclass(frozen=True)
class _CachedPictures:
    """The cached scenes as pictures, batch by batch."""

    recipe: Recipe

    def __call__(self, step: int) -> Tensor:
        rows = range(step * SIZE, min((step + 1) * SIZE, self.recipe.cached_scenes))
        return Pictures(self.recipe, "cached", SIZE).drawn([scene(self.recipe, row) for row in rows], step)
