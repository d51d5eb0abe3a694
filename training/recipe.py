"""Recipes, which have every number of a training run: the model's sizes and the schedule of each stage.

Two runs of one recipe on one machine give the same weights only if both have the same `PYTHONHASHSEED`, since
`tasks.dialogues` chooses from sets of strings. Must not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

STYLES = ("noto", "noto-v1", "fxemoji", "fluent-flat", "fluent", "emojione")
"""The drawing styles that training uses; `scenes.sources` has one more, Twemoji, for evaluation only."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the model: pixels, widths, and numbers of layers, heads and pieces."""

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
    """The number of vocabulary pieces without special tokens and lexicon words (each word is one piece more)."""


@dataclass(frozen=True)
class Schedule:
    """The schedule of one stage: its number of steps, its batch size, and its learning rate at the peak."""

    steps: int
    batch: int
    learning_rate: float
    warmup_steps: int = 100
    final_share: float = 0.02
    """The learning rate of the last step, as a share of the peak."""


@dataclass(frozen=True)
class Recipe:
    """All numbers of one run; `workers` is the number of processes that make its batches."""

    name: str
    vision_encoder: Schedule
    qformer: Schedule
    language_model: Schedule
    joint: Schedule
    corpus_lines: int
    evaluation_scenes: int
    reports: int
    """The number of rendered scenes whose image features a run from an initial model reads (see `stages.reports`)."""

    group_reports: int = 0
    """The number of those that are composed for questions about general names, in addition."""

    sizes: Sizes = field(default_factory=Sizes)
    styles: tuple[str, ...] = STYLES
    seed: int = 20261121
    workers: int = 1
    report_every: int = 200
    save_every_seconds: float = 60.0


FULL = Recipe(
    name="full",
    vision_encoder=Schedule(steps=4200, batch=64, learning_rate=2e-3, final_share=0.25),
    qformer=Schedule(steps=8600, batch=64, learning_rate=1.5e-3),
    language_model=Schedule(steps=8300, batch=64, learning_rate=1e-3),
    joint=Schedule(steps=1300, batch=64, learning_rate=5e-4),
    corpus_lines=40_000,
    evaluation_scenes=400,
    reports=24_000,
)

RECIPES = {
    "full": FULL,
    "plain": replace(
        FULL,
        name="plain",
        language_model=Schedule(steps=9000, batch=64, learning_rate=8e-4),
        group_reports=16_000,
        report_every=400,
    ),
    "smoke": Recipe(
        name="smoke",
        vision_encoder=Schedule(steps=12, batch=16, learning_rate=1e-3, warmup_steps=4),
        qformer=Schedule(steps=6, batch=16, learning_rate=1e-3, warmup_steps=2),
        language_model=Schedule(steps=12, batch=16, learning_rate=1e-3, warmup_steps=4),
        joint=Schedule(steps=6, batch=8, learning_rate=1e-4, warmup_steps=2),
        corpus_lines=1500,
        evaluation_scenes=8,
        reports=64,
        group_reports=64,
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
"""`full` trains a model from random weights. `plain` continues the language model's stage of a trained one:
`python -m training language_model --recipe plain --from assets/tiny`. `smoke` runs every stage for some seconds, too
short to learn anything."""
