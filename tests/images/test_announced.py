"""Laws of the limits that a header alone is refused by."""

from __future__ import annotations

import struct

import pytest

from blip_space.errors import ImageError
from blip_space.images import announced, decode
from blip_space.images.announced import MAX_SIDE, check_announced
from blip_space.images.estimates import read_size
from blip_space.images.jpeg import MAX_SEGMENTS, START, read_header, read_segments
from tests.images.image_bytes import SIGNATURE, chunk, disc, encoded, with_segment, with_size


def header_only(width: int, height: int) -> bytes:
    """A PNG of this size without pixels."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")


def lossless_webp(width: int, height: int) -> bytes:
    """The header of a WebP of this size."""
    bits = (width - 1) | (height - 1) << 14
    return b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", bits) + bytes(8)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_the_size_is_read_from_the_header(form: str) -> None:
    assert read_size(encoded(disc((300, 200)), form)) == (300, 200)


@pytest.mark.parametrize("data", [b"", b"no image", START, SIGNATURE, header_only(1, 1)[:20]])
def test_a_file_without_a_size_is_left_to_its_decoder(data: bytes) -> None:
    assert read_size(data) is None
    check_announced(data)


def test_a_side_is_limited() -> None:
    check_announced(header_only(MAX_SIDE, 1))
    for size in ((MAX_SIDE + 1, 1), (1, MAX_SIDE + 1)):
        with pytest.raises(ImageError, match="a side may have 32,768"):
            check_announced(header_only(*size))


def test_the_memory_of_one_image_is_limited() -> None:
    check_announced(header_only(8_000, 8_000))
    check_announced(lossless_webp(6_100, 6_100))
    with pytest.raises(ImageError, match="would take 643 MB of memory"):
        check_announced(lossless_webp(6_150, 6_150))


def test_the_scans_of_a_jpeg_are_limited_by_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    progressive = encoded(disc(), "JPEG", progressive=True)
    count = sum(segment.marker == 0xDA for segment in read_segments(progressive, with_scans=True))
    assert count > 2
    for size in ((4_000, 3_000), (8_000, 7_000)):
        check_announced(with_size(progressive, *size))
    monkeypatch.setattr(announced, "MAX_SCANNED_PIXELS", count * 224 * 168)
    check_announced(progressive)
    monkeypatch.setattr(announced, "MAX_SCANNED_PIXELS", count * 224 * 168 - 1)
    with pytest.raises(ImageError, match=rf"a JPEG in {count} scans"):
        check_announced(progressive)
    check_announced(encoded(disc(), "JPEG"))


def test_the_segments_of_a_jpeg_are_limited() -> None:
    """Else a file of small segments is read in Python for seconds before its turn."""
    data = encoded(disc(), "JPEG")
    many = START + (b"\xff\xe5\0\2" * MAX_SEGMENTS) + data[2:]
    assert read_header(many) is None
    assert read_header(START + b"\xff\0\xff\x01" * 10 + b"\xff" * 10 + data[2:]) == read_header(data)
    assert decode(with_segment(data, 0xE5, b"")).pixels.size == disc().size
