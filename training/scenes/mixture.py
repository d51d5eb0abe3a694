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
from PIL import Image, ImageDraw, ImageFont

from training.scenes import everyday, names, out_of_distribution, rendering, sources, sprites
from training.scenes.colours import WHITE, jitter
from training.scenes.concepts import concepts
from training.scenes.rendering import Pixels
from training.scenes.scene import Scene, make
from training.scenes.sprite_cache import Album

FLAT, EVERYDAY, STRANGE = 30, 62, 8
"""How often a scene is of each sort."""

BUSY, WINDOWED, AWKWARD = 0.12, 0.06, 0.15
"""How often everyday things lie on a restless background, in a window with its bars, or as nobody would have them."""


def scene(seed: int, index: int, *, split: str, numbers: Sequence[int] = ()) -> Scene:
    """The scene of that number; `numbers`, where given, are the numbers of things to choose from."""
    draw = random.Random(f"{split}/{seed}/{index}/world")
    sort = draw.choices(("flat", "everyday", "strange"), (FLAT, EVERYDAY, STRANGE))[0]
    if sort == "flat":
        return make(seed, index, split=split, numbers=numbers)
    if sort == "everyday":
        made = everyday.make(draw, numbers=numbers)
        return everyday.awkward(made, draw) if draw.random() < AWKWARD else made
    return stranger(out_of_distribution.sort(draw))


def stranger(sort: str) -> Scene:
    """A scene without things, whose picture is of that sort."""
    return Scene(96, 96, (WHITE, WHITE), (), strange=sort)


@dataclass(frozen=True)
class World:
    """Everything that pictures are made from."""

    album: Album
    photographs: tuple[str, ...] = out_of_distribution.LEARNED

    def picture(self, scene: Scene, *, side: int, seed: str, clean: bool = False) -> tuple[Pixels, Pixels]:
        """What the model sees of a scene, (side, side, 3), and how much of each pixel things cover, (side, side).

        A `clean` picture is as it was drawn: in its own tones, on its own paper, without grain or losses.
        """
        draw = random.Random(seed)
        if scene.strange:
            image = out_of_distribution.picture(scene.strange, draw, files=self.photographs, side=side)
            cover = Image.new("L", (side, side))
        elif scene.flat:
            return rendering.pixels(scene, side=side, seed=seed), rendering.silhouette(scene, side)
        elif clean:
            image = rendering.paper(scene, (side, side))
            cover = self.album.lay(scene, image)
        else:
            image = _restless(draw, side) if draw.random() < BUSY else rendering.paper(scene, (side, side))
            image = _windowed(image, draw) if draw.random() < WINDOWED else image
            cover = self.album.lay(scene, image)
            image = rendering.tinted(image, draw)
        shown = image if clean else rendering.distorted(image, draw)
        return np.asarray(shown), np.asarray(cover)


def opened(folder: Path, styles: Sequence[str], *, photographs: tuple[str, ...] = out_of_distribution.LEARNED) -> World:
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


def _windowed(image: Image.Image, draw: random.Random) -> Image.Image:
    """The page between the bars of a window: buttons and fields above, a line of words below or at a side."""
    side = image.width
    canvas, big = ImageDraw.Draw(image), draw.uniform(0.07, 0.16) * side
    tone = draw.choice((draw.randint(190, 245), draw.randint(20, 90)))
    canvas.rectangle((0, 0, side, big), fill=jitter((tone, tone, tone), draw, amount=10))
    for place in range(draw.randint(0, 4)):
        left = (place + 0.5) * big * 0.8
        spot = (left, big * 0.35, left + big * 0.4, big * 0.75)
        canvas.ellipse(spot, fill=tuple(draw.randint(0, 255) for _ in range(3)))
    if draw.random() < 0.7:
        field = (side * draw.uniform(0.25, 0.5), big * 0.2, side * draw.uniform(0.7, 0.98), big * 0.8)
        canvas.rectangle(field, fill=(draw.choice((255, 240, 60)),) * 3)
    if draw.random() < 0.7:
        words = " ".join("".join(draw.choices(out_of_distribution.LETTERS, k=draw.randint(2, 8))) for _ in range(4))
        line = (draw.uniform(0, side / 3), draw.choice((big * 0.1, side - big)))
        ink = (draw.choice((60, 100, 140)),) * 3
        canvas.text(line, words, ink, font=ImageFont.load_default(max(5, big * 0.6)))
    return image
