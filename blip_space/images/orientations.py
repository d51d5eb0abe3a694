"""How an image is turned, as EXIF numbers it from 1 (upright) to 8, and the upright image.

Damaged EXIF turns nothing and is no reason to reject an image.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from PIL import ExifTags, Image

XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
EXIF_MARK = b"Exif\0\0"
TIFF_STARTS = (b"II*\0", b"MM\0*")
INTEGERS = {3: 2, 4: 4}
"""EXIF's types of whole numbers that an orientation is written in, with their bytes."""

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
        number = _number(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # damaged EXIF raises SyntaxError, struct.error, OverflowError, ValueError, …
        number = 1
    exif = image.info.get("exif")
    return _entry_of(exif) if number == 1 and isinstance(exif, bytes) else number


def of_exif(data: bytes) -> int:
    """The orientation in the bytes of an EXIF block, with or without its `Exif` mark."""
    exif = Image.Exif()
    try:
        exif.load(data)
        number = _number(exif.get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # as above
        number = 1
    return _entry_of(data) if number == 1 else number


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


def _entry_of(exif: bytes) -> int:
    """The orientation by its own twelve bytes, which are whole where the value of an earlier tag is cut off: Pillow
    reads no further than that tag. Source: EXIF 2.32, 4.6.2."""
    block = exif.removeprefix(EXIF_MARK)
    order: Literal["little", "big"] = "little" if block.startswith(b"II") else "big"
    if block[:4] not in TIFF_STARTS:
        return 1

    def number(place: int, size: int) -> int:
        return int.from_bytes(block[place : place + size], order)

    first = number(4, 4)
    for place in range(first + 2, min(first + 2 + 12 * number(first, 2), len(block) - 11), 12):
        if number(place, 2) == ExifTags.Base.Orientation and number(place + 4, 4) == 1:
            return _number(number(place + 8, INTEGERS.get(number(place + 2, 2), 0)))
    return 1


def _number(value: Any) -> int:
    """An orientation that turns the image, else 1; EXIF may hold it as a number of any type."""
    return int(value) if value in TRANSPOSITIONS else 1
