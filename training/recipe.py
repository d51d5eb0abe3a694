"""Recipes: the model's sizes and the schedule of each stage, every number of a training run.

Two runs of one recipe on one machine give the same weights. Must not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STYLES = ("noto", "noto-v1", "fxemoji", "fluent-flat", "fluent", "emojione")
"""The drawing styles of training; `sources` has one more, Twemoji, for evaluation only."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the model."""

    image: int = 96
    patch: int = 12
    vision_width: int = 192
    vision_layers: int = 6
    query_width: int = 192
    query_layers: int = 3
    heads: int = 6
    text_width: int = 160
    text_layers: int = 3
    text_heads: int = 5
    pieces: int = 4500
    """The size of the vocabulary without the lexicon words, which are a piece each."""


@dataclass(frozen=True)
class Schedule:
    """One stage: the number of steps, the batch size and the peak learning rate."""

    steps: int
    batch: int
    learning_rate: float
    warmup_steps: int = 100
    final_share: float = 0.02
    """The final learning rate, as a share of its peak."""


@dataclass(frozen=True)
class Recipe:
    """One run."""

    name: str
    vision_encoder: Schedule
    qformer: Schedule
    language_model: Schedule
    joint: Schedule
    corpus_lines: int
    evaluation_scenes: int
    sizes: Sizes = field(default_factory=Sizes)
    styles: tuple[str, ...] = STYLES
    seed: int = 20261121
    workers: int = 1
    report_every: int = 200
    save_every_seconds: float = 60.0


RECIPES = {
    "full": Recipe(
        name="full",
        vision_encoder=Schedule(steps=4200, batch=64, learning_rate=2e-3, final_share=0.25),
        qformer=Schedule(steps=8600, batch=64, learning_rate=1.5e-3),
        language_model=Schedule(steps=8300, batch=64, learning_rate=1e-3),
        joint=Schedule(steps=1300, batch=64, learning_rate=5e-4),
        corpus_lines=40_000,
        evaluation_scenes=400,
    ),
    "smoke": Recipe(
        name="smoke",
        vision_encoder=Schedule(steps=12, batch=16, learning_rate=1e-3, warmup_steps=4),
        qformer=Schedule(steps=6, batch=16, learning_rate=1e-3, warmup_steps=2),
        language_model=Schedule(steps=12, batch=16, learning_rate=1e-3, warmup_steps=4),
        joint=Schedule(steps=6, batch=8, learning_rate=1e-4, warmup_steps=2),
        corpus_lines=1500,
        evaluation_scenes=8,
        sizes=Sizes(
            vision_width=32,
            vision_layers=1,
            query_width=32,
            query_layers=1,
            heads=2,
            text_width=64,
            text_layers=1,
            text_heads=2,
            pieces=1200,
        ),
        workers=0,
        report_every=4,
        save_every_seconds=0.0,
    ),
}
"""`full` makes the committed model; `smoke` runs every stage in seconds, too short to learn anything."""
