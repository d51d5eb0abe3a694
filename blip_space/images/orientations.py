"""Reads the orientation of an image, in EXIF's numbers from 1 (upright) to 8, and applies it.

An image with damaged EXIF is not rejected: its orientation is still read if possible, and is else taken as upright.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from PIL import ExifTags, Image

XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
EXIF_PREFIX = b"Exif\0\0"
TIFF_STARTS = (b"II*\0", b"MM\0*")
INTEGERS = {3: 2, 4: 4}
"""The integer types of EXIF in which an orientation may be stored, with their sizes in bytes."""

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def from_image(image: Image.Image) -> int:
    """The orientation in the EXIF or else the XMP of an image that Pillow has opened."""
    try:
        number = _valid_orientation(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # damaged EXIF raises SyntaxError, struct.error, OverflowError, ValueError, …
        number = 1
    exif = image.info.get("exif")
    return _read_entry(exif) if number == 1 and isinstance(exif, bytes) else number


def from_exif(data: bytes) -> int:
    """The orientation in the bytes of an EXIF block, with or without its `Exif` prefix."""
    exif = Image.Exif()
    try:
        exif.load(data)
        number = _valid_orientation(exif.get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # damaged EXIF, as in `from_image`
        number = 1
    return _read_entry(data) if number == 1 else number


def from_xmp(data: bytes) -> int:
    """The orientation in the bytes of an XMP packet."""
    match = XMP_ORIENTATION.search(data)
    return _valid_orientation(int(match[1])) if match else 1


def from_metadata(exif: bytes, xmp: bytes) -> int:
    """The orientation in the bytes of EXIF, or else in the bytes of XMP; both may be empty."""
    orientation = from_exif(exif)
    return orientation if orientation != 1 else from_xmp(xmp)


def make_upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image rotated and mirrored so that it is upright; a quarter turn swaps width and height.

    Pillow's `exif_transpose` does the same and then rewrites the EXIF, which fails if another tag is damaged.
    """
    transposition = TRANSPOSITIONS.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def _read_entry(exif: bytes) -> int:
    """The orientation in its 12-byte entry of an EXIF block. Unlike Pillow, this also finds an entry after a tag whose
    value is cut off. Source: EXIF 2.32, 4.6.2."""
    block = exif.removeprefix(EXIF_PREFIX)
    order: Literal["little", "big"] = "little" if block.startswith(b"II") else "big"
    if block[:4] not in TIFF_STARTS:
        return 1

    def integer(offset: int, size: int) -> int:
        return int.from_bytes(block[offset : offset + size], order)

    start = integer(4, 4)
    for entry in range(start + 2, min(start + 2 + 12 * integer(start, 2), len(block) - 11), 12):
        if integer(entry, 2) == ExifTags.Base.Orientation and integer(entry + 4, 4) == 1:
            return _valid_orientation(integer(entry + 8, INTEGERS.get(integer(entry + 2, 2), 0)))
    return 1


def _valid_orientation(value: Any) -> int:
    """`value` as an orientation, or 1 if it is none; EXIF may hold a number of any type."""
    return int(value) if value in TRANSPOSITIONS else 1
