"""How big the model is and how long each stage runs: every number that a training run is made of.

A recipe is the whole of a run's identity; two runs of one recipe on one machine give the same weights. Knows no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STYLES = ("noto", "noto-v1", "fxemoji", "fluent-flat", "fluent", "emojione")
"""The hands whose drawings are learned; `sources` has one more, Twemoji, which is kept for the exam."""


@dataclass(frozen=True)
class Sizes:
    """The shape of the model."""

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
    """The vocabulary besides the words of the world, which are a piece each."""


@dataclass(frozen=True)
class Schedule:
    """One stage: how many steps of how many samples, and the highest learning rate."""

    steps: int
    batch: int
    learning_rate: float
    warm_up: int = 100
    least: float = 0.02
    """What the learning rate falls to, as a share of its highest."""


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    name: str
    vision: Schedule
    sight: Schedule
    text: Schedule
    joint: Schedule
    corpus_lines: int
    exam_scenes: int
    sizes: Sizes = field(default_factory=Sizes)
    styles: tuple[str, ...] = STYLES
    seed: int = 20261121
    workers: int = 1
    report_every: int = 200
    save_every_seconds: float = 60.0


RECIPES = {
    "full": Recipe(
        name="full",
        vision=Schedule(steps=4200, batch=64, learning_rate=2e-3, least=0.25),
        sight=Schedule(steps=8600, batch=64, learning_rate=1.5e-3),
        text=Schedule(steps=8300, batch=64, learning_rate=1e-3),
        joint=Schedule(steps=1300, batch=64, learning_rate=5e-4),
        corpus_lines=40_000,
        exam_scenes=400,
    ),
    "smoke": Recipe(
        name="smoke",
        vision=Schedule(steps=12, batch=16, learning_rate=1e-3, warm_up=4),
        sight=Schedule(steps=6, batch=16, learning_rate=1e-3, warm_up=2),
        text=Schedule(steps=12, batch=16, learning_rate=1e-3, warm_up=4),
        joint=Schedule(steps=6, batch=8, learning_rate=1e-4, warm_up=2),
        corpus_lines=1500,
        exam_scenes=8,
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
"""`full` makes the committed model; `smoke` runs every stage in seconds and learns nothing."""
