"""Image files that are built in code, for the tests of decoding."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageDraw, features

from blip_space.errors import ImageError
from blip_space.images import decode

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEIC_STUB = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")


def fingerprint(data: bytes) -> str | None:
    """The size and a digest of an image's pixels, or None if it is rejected as damaged."""
    try:
        image = decode(data).pixels
    except ImageError as error:
        if "damaged or was cut off" not in str(error):
            raise
        return None
    return f"{image.size} {hashlib.sha256(image.tobytes()).hexdigest()}"


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of an image in a format of Pillow."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def disc(size: tuple[int, int] = (224, 168)) -> Image.Image:
    """A red disc on white."""
    width, height = size
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((width // 5, height // 6, width - width // 5, height - height // 6), fill="red")
    return image


def noise(size: tuple[int, int] = (61, 47)) -> Image.Image:
    """An image without two equal rows, so every missing row changes its pixels. It is the same in every run."""
    width, height = size
    return Image.frombytes("L", size, random.Random(0).randbytes(width * height)).convert("RGB")


def chunk(kind: bytes, payload: bytes, *, checksum: int | None = None) -> bytes:
    """A chunk of a PNG, with a valid checksum or the given one."""
    valid = zlib.crc32(kind + payload)
    return (
        struct.pack(">I", len(payload))
        + kind
        + payload
        + struct.pack(">I", valid if checksum is None else checksum & 0xFFFFFFFF)
    )


def with_chunk(png: bytes, added: bytes) -> bytes:
    """The PNG with these bytes after its header."""
    return png[:33] + added + png[33:]


def with_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """The JPEG with one more segment at its start."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def exif(orientation: int = 6, *, text: str = "a description of some length") -> bytes:
    """EXIF with a description, which is stored after the entries, and an orientation, which is stored in them."""
    block = Image.Exif()
    block[0x010E] = text
    block[0x0112] = orientation
    return block.tobytes()


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its frame; its coded data are unchanged."""
    offset = next(jpeg.index(marker) for marker in (b"\xff\xc0\0", b"\xff\xc2\0") if marker in jpeg)
    return jpeg[: offset + 5] + struct.pack(">HH", height, width) + jpeg[offset + 9 :]
