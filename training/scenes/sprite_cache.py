"""Renders everyday objects: the sprite of each object is rotated, scaled and pasted onto the background.

Small objects use small mip levels of their sprites, which avoids aliasing. Must not import `lexicon`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from PIL import Image

from training.scenes.scene import Scene, SceneObject
from training.scenes.sprites import Sprites

LEVELS = 4
"""The number of mip levels of each sprite: full, half, quarter and eighth size."""


class SpriteCache:
    """Every sprite at several sizes; an object's `variant` selects one of the sprites of its concept."""

    def __init__(self, sprites: Sprites) -> None:
        self._mip_levels = [_mip_levels(Image.fromarray(pixels)) for pixels in sprites.pixels]
        self._rows: Mapping[str, tuple[int, ...]] = sprites.rows()

    def has_sprite(self, kind: str) -> bool:
        """Whether there is a sprite of the concept `kind`."""
        return kind in self._rows

    def sprite(self, obj: SceneObject, extent: float) -> Image.Image:
        """The object's sprite at the smallest level that is at least `extent` pixels wide, or else at full size."""
        rows = self._rows[obj.kind]
        copies = self._mip_levels[rows[min(len(rows) - 1, int(obj.variant * len(rows)))]]
        return next((copy for copy in reversed(copies) if copy.width >= extent), copies[0])

    def paste(self, scene: Scene, canvas: Image.Image) -> Image.Image:
        """Draw the objects onto the canvas, which may have any size; returns how much of each pixel they cover."""
        coverage = Image.new("L", canvas.size)
        scale_right, scale_down = canvas.width / scene.width, canvas.height / scene.height
        for obj in scene.objects:
            tile, corner = self._transformed(obj, scale_right, scale_down)
            rgba = tile.convert("RGBA")
            alpha = rgba.getchannel("A")
            canvas.paste(rgba, corner, alpha)
            coverage.paste(255, corner, alpha)
        return coverage

    def _transformed(
        self, obj: SceneObject, scale_right: float, scale_down: float
    ) -> tuple[Image.Image, tuple[int, int]]:
        """The object's sprite as it appears on the canvas, and the canvas position of its upper left corner."""
        width, height = obj.box.size * min(1.0, obj.stretch), obj.box.size / max(1.0, obj.stretch)
        sprite = self.sprite(obj, max(width * scale_right, height * scale_down))
        turn = math.radians(obj.angle)
        cosine, sine = math.cos(turn), math.sin(turn)
        half_x = (abs(cosine) * width + abs(sine) * height) / 2 * scale_right
        half_y = (abs(sine) * width + abs(cosine) * height) / 2 * scale_down
        centre_x, centre_y = obj.box.x * scale_right, obj.box.y * scale_down
        left, top = math.floor(centre_x - half_x), math.floor(centre_y - half_y)
        size = (math.ceil(centre_x + half_x) - left, math.ceil(centre_y + half_y) - top)
        # The transform below maps a pixel of the tile to one of the sprite.
        scale_x, scale_y = sprite.width / width, sprite.height / height
        if obj.mirrored:
            scale_x = -scale_x
        a, b = cosine / scale_right * scale_x, sine / scale_down * scale_x
        d, e = -sine / scale_right * scale_y, cosine / scale_down * scale_y
        c = sprite.width / 2 - a * (centre_x - left) - b * (centre_y - top)
        f = sprite.height / 2 - d * (centre_x - left) - e * (centre_y - top)
        tile = sprite.transform(size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
        return tile, (left, top)


def _mip_levels(sprite: Image.Image) -> list[Image.Image]:
    """The sprite and its smaller copies, with premultiplied alpha so that edges do not darken."""
    premultiplied = sprite.convert("RGBa")
    return [premultiplied, *(premultiplied.reduce(2**level) for level in range(1, LEVELS))]
