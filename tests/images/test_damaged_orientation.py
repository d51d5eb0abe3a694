"""Laws of the orientation of damaged files."""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image

from blip_space.images import (
    decode,
)
from tests.images.image_bytes import (
    chunk,
    disc,
    encoded,
    exif,
    with_chunk,
    with_segment,
)

DAMAGE = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(1_500_000)))
PNG = encoded(disc(), "PNG")


RAW_PROFILE = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n50\n" + exif().hex().encode())


XMP = b"http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation='6' tiff:Orientation=\"6\"/>"


def cut_webp() -> bytes:
    """A WebP with an orientation in its EXIF, whose last chunk is cut off."""
    data = encoded(disc(), "WEBP", exif=exif())
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + b"XMP "


ORIENTED = {
    "JPEG": encoded(disc(), "JPEG", exif=exif())[:-2],
    "JPEG, XMP": with_segment(encoded(disc(), "JPEG")[:-2], 0xE1, XMP),
    "JPEG and a damaged profile": with_segment(encoded(disc(), "JPEG", exif=exif()), 0xE2, b"ICC_PROFILE\0"),
    "PNG": with_chunk(encoded(disc(), "PNG", exif=exif()), DAMAGE),
    "PNG, raw profile": with_chunk(PNG, chunk(b"zTXt", RAW_PROFILE) + DAMAGE),
    "PNG, XMP": with_chunk(PNG, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP[29:]) + DAMAGE),
    "WebP": cut_webp(),
}


@pytest.mark.parametrize("kind", ORIENTED)
def test_a_valid_orientation_is_applied_to_a_repaired_image(kind: str) -> None:
    assert decode(ORIENTED[kind]).pixels.size == (168, 224)


def test_the_orientation_is_applied_although_another_tag_is_damaged() -> None:
    """Pillow's `exif_transpose` rewrites the EXIF and fails on a tag of a type that it cannot write."""
    entries = struct.pack(">HHII", 0x0112, 3, 1, 6 << 16) + struct.pack(">HHII", 0x8298, 12, 1, 8)
    block = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + b"\0\0\0\0"
    assert decode(with_segment(encoded(disc(), "JPEG"), 0xE1, block)).pixels.size == (168, 224)


def broken_exif(missing: int) -> bytes:
    """A complete orientation after a description whose last bytes are missing."""
    entries = struct.pack("<HHIIHHIHHI", 0x10E, 2, 50, 38, 0x112, 3, 1, 6, 0, 0)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + b"x" * (50 - missing)


@pytest.mark.parametrize("missing", [0, 1, 10, 40, 50])
@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
def test_the_orientation_is_applied_although_an_earlier_tag_is_cut_off(form: str, missing: int) -> None:
    """Pillow stops reading at the first tag without its value, so images of cameras came out sideways."""
    image = Image.new("RGB", (32, 24), "navy")
    data = encoded(image, form, exif=broken_exif(missing))
    assert decode(data).pixels.size == (24, 32)
