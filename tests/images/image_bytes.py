"""Image files made in code for the tests of reading images."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageDraw

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of an image in a format of Pillow."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def disc(size: tuple[int, int] = (224, 168)) -> Image.Image:
    """A red disc on white, with nothing even about its edge."""
    width, height = size
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((width // 5, height // 6, width - width // 5, height - height // 6), fill="red")
    return image


def noise(size: tuple[int, int] = (61, 47)) -> Image.Image:
    """An image without two equal rows, so that each missing one shows."""
    return Image.effect_noise(size, 90).convert("RGB")


def chunk(kind: bytes, payload: bytes, *, checksum: int | None = None) -> bytes:
    """A chunk of a PNG, with the right checksum or another one."""
    right = zlib.crc32(kind + payload)
    return (
        struct.pack(">I", len(payload))
        + kind
        + payload
        + struct.pack(">I", right if checksum is None else checksum & 0xFFFFFFFF)
    )


def with_chunk(png: bytes, added: bytes) -> bytes:
    """The PNG with those bytes after its header."""
    return png[:33] + added + png[33:]


def with_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """The JPEG with one more segment at its beginning."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def exif(orientation: int = 6, *, text: str = "a description of some length") -> bytes:
    """EXIF with a description, which lies behind the entries, and an orientation, which lies in them."""
    block = Image.Exif()
    block[0x010E] = text
    block[0x0112] = orientation
    return block.tobytes()


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its frame; its coded data stay as they are."""
    at = next(jpeg.index(mark) for mark in (b"\xff\xc0\0", b"\xff\xc2\0") if mark in jpeg)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]
