"""How an image is turned, as EXIF numbers it from 1 (upright) to 8, and the upright image.

Damaged EXIF turns nothing and is no reason to reject an image.
"""

from __future__ import annotations

import re
from typing import Any

from PIL import ExifTags, Image

XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def of_image(image: Image.Image) -> int:
    """The orientation that Pillow finds in an image's EXIF, else in its XMP."""
    try:
        return _number(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # damaged EXIF raises SyntaxError, struct.error, OverflowError, ValueError, …
        return 1


def of_exif(data: bytes) -> int:
    """The orientation in the bytes of an EXIF block, with or without its `Exif` mark."""
    exif = Image.Exif()
    try:
        exif.load(data)
        return _number(exif.get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # as above
        return 1


def of_xmp(data: bytes) -> int:
    """The orientation in the bytes of an XMP packet."""
    match = XMP_ORIENTATION.search(data)
    return _number(int(match[1])) if match else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned as its orientation says; its size changes with a quarter turn.

    Pillow's `exif_transpose` does the same and then writes the EXIF again, which fails where another of its tags is
    damaged.
    """
    transposition = TRANSPOSITIONS.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def _number(value: Any) -> int:
    """An orientation that turns the image, else 1; EXIF may hold it as a number of any type."""
    return int(value) if value in TRANSPOSITIONS else 1
