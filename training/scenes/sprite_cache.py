"""A scene of everyday things becomes pixels: each concept's drawing is turned, sized and laid onto the paper.

Knows Pillow and the sprites; knows no words. Small drawings come from small copies, so that nothing flickers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from PIL import Image

from training.scenes.scene import Scene, Thing
from training.scenes.sprites import Sprites

LEVELS = 4
"""Each drawing is kept at full, half, quarter and an eighth of its size."""


class Album:
    """Every drawing of every concept, at several sizes; picked by what a thing says of its hand."""

    def __init__(self, sprites: Sprites) -> None:
        self._copies = [_copies(Image.fromarray(pixels)) for pixels in sprites.pixels]
        self._rows: Mapping[str, tuple[int, ...]] = sprites.rows()

    def knows(self, kind: str) -> bool:
        """Whether there is a drawing of that concept."""
        return kind in self._rows

    def drawing(self, thing: Thing, extent: float) -> Image.Image:
        """The thing's drawing at the smallest size that is no smaller than `extent` pixels."""
        rows = self._rows[thing.kind]
        copies = self._copies[rows[min(len(rows) - 1, int(thing.hand * len(rows)))]]
        return next((copy for copy in reversed(copies) if copy.width >= extent), copies[0])

    def lay(self, scene: Scene, paper: Image.Image) -> Image.Image:
        """Put the scene's things onto the paper, whatever its size; returns how much each pixel of it is covered."""
        cover = Image.new("L", paper.size)
        across, down = paper.width / scene.width, paper.height / scene.height
        for thing in scene.things:
            tile, corner = self._turned(thing, across, down)
            ink = tile.convert("RGBA")
            alpha = ink.getchannel("A")
            paper.paste(ink, corner, alpha)
            cover.paste(255, corner, alpha)
        return cover

    def _turned(self, thing: Thing, across: float, down: float) -> tuple[Image.Image, tuple[int, int]]:
        """The drawing as it lies on the paper, and where its upper left corner goes."""
        wide, high = thing.box.size * min(1.0, thing.stretch), thing.box.size / max(1.0, thing.stretch)
        drawing = self.drawing(thing, max(wide * across, high * down))
        turn = math.radians(thing.angle)
        cosine, sine = math.cos(turn), math.sin(turn)
        half_x = (abs(cosine) * wide + abs(sine) * high) / 2 * across
        half_y = (abs(sine) * wide + abs(cosine) * high) / 2 * down
        centre_x, centre_y = thing.box.x * across, thing.box.y * down
        left, top = math.floor(centre_x - half_x), math.floor(centre_y - half_y)
        size = (math.ceil(centre_x + half_x) - left, math.ceil(centre_y + half_y) - top)
        # From a pixel of the tile back to one of the drawing.
        scale_x, scale_y = drawing.width / wide, drawing.height / high
        if thing.mirrored:
            scale_x = -scale_x
        a, b = cosine / across * scale_x, sine / down * scale_x
        d, e = -sine / across * scale_y, cosine / down * scale_y
        c = drawing.width / 2 - a * (centre_x - left) - b * (centre_y - top)
        f = drawing.height / 2 - d * (centre_x - left) - e * (centre_y - top)
        tile = drawing.transform(size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
        return tile, (left, top)


def _copies(drawing: Image.Image) -> list[Image.Image]:
    """The drawing, and ever smaller ones; with premultiplied alpha, so that edges do not darken."""
    whole = drawing.convert("RGBa")
    return [whole, *(whole.reduce(2**level) for level in range(1, LEVELS))]
