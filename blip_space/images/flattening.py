"""A decoded image of any mode becomes 8-bit RGB, piece by piece, so that no step needs a copy of the whole.

Depends on Pillow's modes only; decodes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import cast

from PIL import Image

PIECE_PIXELS = 250_000
"""So many are converted at a time: each of Pillow's steps makes a copy in 4 bytes a pixel, and some of them keep the
interpreter's lock, 0.3 s for 64 megapixels."""

WHITES = (1, 255, 65_535)
"""What white is in images of 32-bit numbers: the first of these that no pixel exceeds."""


def flat(image: Image.Image) -> Image.Image:
    """8-bit RGB: deep grey scaled to 8 bits, transparency laid on white, every other mode as Pillow converts it.

    An image that is so already is returned as it is, and needs no copy.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    boxes = list(_boxes(image.size))
    white = _white(image, boxes) if image.mode in ("I", "F") else 0.0
    if len(boxes) == 1:
        return _flat_piece(image, white)
    whole = Image.new("RGB", image.size, None)
    for box in boxes:
        whole.paste(_flat_piece(image.crop(box), white), box[:2])
    return whole


def _boxes(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Left, upper, right and lower bound of each piece."""
    width, height = size
    columns = max(min(width, PIECE_PIXELS), 1)
    rows = max(PIECE_PIXELS // columns, 1)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)


def _white(image: Image.Image, boxes: list[tuple[int, int, int, int]]) -> float:
    pieces = (image.crop(box) for box in boxes)
    brightest = max(cast(tuple[float, float], piece.getextrema())[1] for piece in pieces)
    return next((white for white in WHITES if brightest <= white), brightest)


def _flat_piece(image: Image.Image, white: float) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _flat_deep_grey(image)
    elif image.mode in ("I", "F"):
        image = _scaled(image, white)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _flat_deep_grey(image: Image.Image) -> Image.Image:
    """8-bit grey of 16-bit grey. Its transparent grey is compared in 16 bits, since 257 of them become one."""
    transparent = image.info.get("transparency")
    grey = _scaled(image.convert("I"), 65_535)
    grey.info.pop("transparency", None)
    if isinstance(transparent, int):
        grey.paste(255, mask=image.convert("I").point(_mask_of(transparent), "L"))
    return grey


@lru_cache(maxsize=1)
def _mask_of(transparent: int) -> list[int]:
    """By level of 16-bit grey, 255 where it is the transparent one."""
    return [255 if level == transparent else 0 for level in range(65_536)]


def _scaled(image: Image.Image, white: float) -> Image.Image:
    """8-bit grey of an image whose numbers go from 0 to `white`."""
    return image.convert("F").point(lambda value: value * (255 / white) + 0.0).convert("L")
