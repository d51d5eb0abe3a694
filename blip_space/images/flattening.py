"""Convert a decoded image of any mode to 8-bit RGB, in tiles, so no step copies the entire image.

Depends on Pillow's modes only; must not decode anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import cast

from PIL import Image

TILE_PIXELS = 250_000
"""Each of Pillow's steps makes a copy of 4 bytes per pixel, and some hold the GIL, for 0.3 s with 64 megapixels."""

WHITE_LEVELS = (1, 255, 65_535)
"""White in images of 32-bit numbers is the first of these that no pixel exceeds."""


def flatten(image: Image.Image) -> Image.Image:
    """8-bit RGB: deep grey scaled to 8 bits, transparency on white, every other mode as Pillow converts it.

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
    """Left, upper, right and lower bound of each tile."""
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
    """8-bit grey of 16-bit grey. The transparent level is compared in 16 bits, since 257 levels become one."""
    transparent = image.info.get("transparency")
    grey = _scale(image.convert("I"), 65_535)
    grey.info.pop("transparency", None)
    if isinstance(transparent, int):
        grey.paste(255, mask=image.convert("I").point(_transparency_table(transparent), "L"))
    return grey


@lru_cache(maxsize=1)
def _transparency_table(transparent: int) -> list[int]:
    """255 at the transparent level of 16-bit grey, 0 at all others."""
    return [255 if level == transparent else 0 for level in range(65_536)]


def _scale(image: Image.Image, white: float) -> Image.Image:
    """8-bit grey of an image with levels from 0 to `white`."""
    return image.convert("F").point(lambda value: value * (255 / white) + 0.0).convert("L")
