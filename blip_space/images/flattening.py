"""Converts a decoded image of any mode to 8-bit RGB, in tiles, so that no step copies the entire image.

Depends on Pillow's modes only; must not decode anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import cast

from PIL import Image

TILE_PIXELS = 250_000
"""The size of a tile. Every step in Pillow copies 4 bytes per pixel, and some steps hold the GIL: 0.3 s for 64 MP."""

WHITE_LEVELS = (1, 255, 65_535)
"""In an image of 32-bit numbers, the first of these levels that no pixel exceeds is taken as white."""


def flatten(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB: deep grey scaled to 8 bits, transparency on white, other modes as Pillow converts them.

    An opaque RGB image is returned without a copy.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    boxes = list(_boxes(image.size))
    white = _white(image, boxes) if image.mode in ("I", "F") else 0.0
    if len(boxes) == 1:
        return _flatten_tile(image, white)
    flattened = Image.new("RGB", image.size, None)
    for box in boxes:
        flattened.paste(_flatten_tile(image.crop(box), white), box[:2])
    return flattened


def _boxes(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yields the box of each tile: left, upper, right, lower."""
    width, height = size
    columns = max(min(width, TILE_PIXELS), 1)
    rows = max(TILE_PIXELS // columns, 1)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)


def _white(image: Image.Image, boxes: list[tuple[int, int, int, int]]) -> float:
    tiles = (image.crop(box) for box in boxes)
    brightest = max(cast(tuple[float, float], tile.getextrema())[1] for tile in tiles)
    return next((white for white in WHITE_LEVELS if brightest <= white), brightest)


def _flatten_tile(image: Image.Image, white: float) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _scale_16_bit(image)
    elif image.mode in ("I", "F"):
        image = _scale(image, white)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, with white for the transparent level, which is found before levels are merged."""
    transparent = image.info.get("transparency")
    grey = _scale(image.convert("I"), 65_535)
    grey.info.pop("transparency", None)
    if isinstance(transparent, int):
        grey.paste(255, mask=image.convert("I").point(_transparency_table(transparent), "L"))
    return grey


@lru_cache(maxsize=1)
def _transparency_table(transparent: int) -> list[int]:
    """A lookup table over the levels of 16-bit grey: 255 for the transparent level, 0 for all others."""
    return [255 if level == transparent else 0 for level in range(65_536)]


def _scale(image: Image.Image, white: float) -> Image.Image:
    """The image as 8-bit grey. `white` is the level that becomes 255; the lowest level is 0."""
    return image.convert("F").point(lambda value: value * (255 / white) + 0.0).convert("L")
