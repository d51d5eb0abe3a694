"""The whole world that the model learns: flat shapes, everyday things, and pictures of neither.

A scene is a function of a seed alone; its picture, of the scene, another seed and the drawings that the world was
opened with. Knows how the three sorts of pictures are mixed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.world import drawing, everyday, names, scenes, sources, sprites, strangers
from training.world.colours import WHITE
from training.world.concepts import concepts
from training.world.drawing import Pixels
from training.world.pasting import Album
from training.world.scenes import Scene

FLAT, EVERYDAY, STRANGE = 26, 66, 8
"""How often a scene is of each sort."""

BUSY = 0.12
"""How often everyday things lie on a restless background."""


def scene(seed: int, index: int, *, split: str, numbers: Sequence[int] = ()) -> Scene:
    """The scene of that number; `numbers`, where given, are the numbers of things to choose from."""
    draw = random.Random(f"{split}/{seed}/{index}/world")
    sort = draw.choices(("flat", "everyday", "strange"), (FLAT, EVERYDAY, STRANGE))[0]
    if sort == "flat":
        return scenes.make(seed, index, split=split, numbers=numbers)
    if sort == "everyday":
        return everyday.make(draw, numbers=numbers)
    return stranger(strangers.sort(draw))


def stranger(sort: str) -> Scene:
    """A scene without things, whose picture is of that sort."""
    return Scene(96, 96, (WHITE, WHITE), (), strange=sort)


@dataclass(frozen=True)
class World:
    """Everything that pictures are made from."""

    album: Album
    photographs: tuple[str, ...] = strangers.LEARNED

    def picture(self, scene: Scene, *, side: int, seed: str) -> tuple[Pixels, Pixels]:
        """What the model sees of a scene, (side, side, 3), and how much of each pixel things cover, (side, side)."""
        draw = random.Random(seed)
        if scene.strange:
            image = strangers.picture(scene.strange, draw, files=self.photographs, side=side)
            cover = Image.new("L", (side, side))
        elif scene.flat:
            return drawing.pixels(scene, side=side, seed=seed), drawing.silhouette(scene, side)
        else:
            image = _restless(draw, side) if draw.random() < BUSY else drawing.paper(scene, (side, side))
            cover = self.album.lay(scene, image)
            image = drawing.tinted(image, draw)
        return np.asarray(drawing.distorted(image, draw)), np.asarray(cover)


def opened(folder: Path, styles: Sequence[str], *, photographs: tuple[str, ...] = strangers.LEARNED) -> World:
    """The world with the drawings of these styles; what is missing is fetched into the folder."""
    characters = names.characters(sources.fetched(sources.ANNOTATIONS, folder))
    return World(Album(sprites.load(folder, concepts(), characters, tuple(styles))), photographs)


def _restless(draw: random.Random, side: int) -> Image.Image:
    """A background of soft patches or of fine grain, pale or dark."""
    few = draw.choice((2, 3, 5, 8, 24))
    spread, middle = draw.uniform(6, 45), draw.choice((235, 200, 128, 60, 25))
    dice = np.random.default_rng(draw.getrandbits(32))
    patches = np.clip(dice.normal(middle, spread, (few, few, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC)
