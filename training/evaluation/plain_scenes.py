"""Scenes for plain questions: everyday objects of chosen kinds, and flat shapes in two colours.

Must not import `model` or `lexicon`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from training.scenes import everyday
from training.scenes.scene import Scene, sample_flat_scene

GROUPS = {
    "animals": ("dog", "cat", "horse", "cow", "pig", "lion", "elephant", "rabbit", "fox", "camel"),
    "birds": ("bird", "duck", "owl", "eagle", "penguin"),
    "fruit": ("banana", "red apple", "pear", "strawberry", "lemon", "pineapple"),
    "flowers": ("rose", "tulip", "sunflower", "hibiscus"),
}
"""The kinds of objects to which a general name applies, by the key of that name in the file of wordings."""

THINGS = ("house", "guitar", "umbrella", "key", "hammer", "scissors", "candle", "bell", "pizza", "bicycle")
"""Kinds to which no general name of `GROUPS` applies, and which no wording names."""

About = str | Sequence[str]
"""What a question is about: the key of a general name, or a list of kinds."""


def sample_kinds(about: About, count: int, rng: random.Random) -> list[str]:
    """`count` random kinds that the question is about."""
    pool = GROUPS[about] if isinstance(about, str) else about
    return [rng.choice(pool) for _ in range(count)]


def sample_others(about: About, count: int, rng: random.Random) -> list[str]:
    """`count` random kinds that the question is not about: animals and things."""
    excluded = GROUPS[about] if isinstance(about, str) else about
    pool = [kind for kind in (*GROUPS["animals"], *THINGS) if kind not in excluded]
    return [rng.choice(pool) for _ in range(count)]


def everyday_scene(kinds: Sequence[str], rng: random.Random) -> Scene:
    """A scene of one object of each of `kinds`, in a random order and layout."""
    layout = everyday.sample_everyday_scene(rng, numbers=(len(kinds),))
    shuffled = rng.sample(list(kinds), len(kinds))
    variants = {kind: rng.random() for kind in sorted(set(kinds))}
    objects = (
        replace(obj, kind=kind, variant=variants[kind]) for obj, kind in zip(layout.objects, shuffled, strict=True)
    )
    return replace(layout, objects=tuple(objects))


def two_sided_scene(rng: random.Random) -> Scene:
    """A scene of two objects of different kinds, one of which is on the left and one on the right."""
    while True:
        scene = everyday_scene(rng.sample((*GROUPS["animals"], *THINGS), 2), rng)
        if scene.at("left") and scene.at("right"):
            return scene


def flat_scene(count: int, shape: str | None, rng: random.Random) -> Scene:
    """A scene of one or two flat shapes, `shape` if given; two have different colours, one on the left, one on the
    right."""
    while True:
        scene = sample_flat_scene(rng.getrandbits(32), 0, split="plain questions", numbers=(count,))
        if shape:
            scene = replace(scene, objects=tuple(replace(obj, kind=shape, angle=0.0) for obj in scene.objects))
        colours = {obj.colour for obj in scene.objects}
        if count == 1 or (len(colours) == 2 and scene.at("left") and scene.at("right")):
            return scene
