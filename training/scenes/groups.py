"""Composes scenes for questions about general names: several kinds with one name, copies of one kind, and other things
that are like them.

Random scenes rarely show three kinds of flowers. Must not import `sprites` or anything that renders.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from training.scenes import everyday
from training.scenes.everyday import NAMES
from training.scenes.general_names import general_names
from training.scenes.scene import Scene

NUMBERS = (1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6)
"""The number of objects is drawn from this list."""

MEMBER_SHARES = (1.0, 0.75, 0.75, 0.5, 0.5, 0.25)
"""The share of the objects that have the scene's general name, or are copies of its kind, is drawn from this list."""

COPIES_SHARE, NEAR_SHARE, ONE_LOOK_SHARE = 0.5, 0.6, 0.7
"""The probabilities that a scene has copies of one kind, that any other object is like them, and that all objects of a
kind are the same drawing."""


def sample_group_scene(rng: random.Random) -> Scene:
    """A random scene of everyday objects, of which many have one general name or are of one kind."""
    scene = everyday.sample_everyday_scene(rng, numbers=NUMBERS)
    kinds = _kinds_of_group(len(scene.objects), rng)
    has_one_look, variants = rng.random() < ONE_LOOK_SHARE, dict[str, float]()
    objects = []
    for obj, kind in zip(scene.objects, kinds, strict=True):
        variant = variants.setdefault(kind, obj.variant) if has_one_look else obj.variant
        objects.append(replace(obj, kind=kind, variant=variant))
    return replace(scene, objects=tuple(objects))


def sample_general_name(rng: random.Random) -> str:
    """A random general name, more often one of many concepts, since those take longer to learn."""
    names = general_names()
    return rng.choices(list(names), [len(general.members) ** 0.5 for general in names.values()])[0]


@cache
def near_kinds(name: str) -> tuple[str, ...]:
    """The kinds that lack the general name `name` for certain, but share another with some of its kinds."""
    general = general_names()[name]
    others = (other.members for other in general_names().values() if other.members & general.members)
    return tuple(sorted(set().union(*others) - general.members - general.doubtful))


def _kinds_of_group(count: int, rng: random.Random) -> list[str]:
    name = sample_general_name(rng)
    group: Sequence[str] = sorted(general_names()[name].members)
    near: Sequence[str] = near_kinds(name)
    if rng.random() < COPIES_SHARE:
        kind = rng.choice(group if rng.random() < NEAR_SHARE else NAMES)
        near = [other for other in group if other != kind]
        group = [kind]
    share = rng.choice(MEMBER_SHARES)
    kinds = []
    for _ in range(count):
        others = near if near and rng.random() < NEAR_SHARE else NAMES
        kinds.append(rng.choice(group if rng.random() < share else others))
    return kinds
