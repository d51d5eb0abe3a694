"""Laws of damaged PNGs: only missing pixels make an image unreadable."""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image

from blip_space.images import (
    decode,
)
from tests.images.image_bytes import (
    SIGNATURE,
    chunk,
    disc,
    encoded,
    exif,
    fingerprint,
    noise,
    with_chunk,
)

PNG = encoded(disc(), "PNG")


LONG = bytes(1_500_000)


PNG_METADATA = {
    "long compressed text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),
    "long compressed international text": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LONG)),
    "a long profile": chunk(b"iCCP", b"icc\0\0" + zlib.compress(LONG)),
    "much text": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 70,
    "text of an unknown compression": chunk(b"zTXt", b"a\0\7xx"),
    "a profile of an unknown compression": chunk(b"iCCP", b"a\0\7xx"),
    "an empty profile": chunk(b"iCCP", b""),
    "a wrong checksum of a text": chunk(b"tEXt", b"a\0b", checksum=1),
    "a wrong checksum of the time": chunk(b"tIME", bytes(7), checksum=1),
    "a wrong checksum of EXIF": chunk(b"eXIf", exif(1)[6:], checksum=1),
    "a short physical size": chunk(b"pHYs", b"\0"),
    "a short gamma": chunk(b"gAMA", b"\0"),
    "a chromaticity of an invalid length": chunk(b"cHRM", b"\0" * 5),
    "an empty colour space": chunk(b"sRGB", b""),
    "invalid EXIF": chunk(b"eXIf", b"x" * 30),
    "an empty animation": chunk(b"fcTL", b""),
    "an animation out of its order": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\0\0\0\5" + bytes(22)),
}


@pytest.mark.parametrize("kind", PNG_METADATA)
def test_no_metadata_makes_a_png_unreadable(kind: str) -> None:
    """Case png-long-compressed-text and similar ones."""
    at_end = PNG[:-12] + PNG_METADATA[kind] + PNG[-12:]
    assert fingerprint(with_chunk(PNG, PNG_METADATA[kind])) == fingerprint(at_end) == fingerprint(PNG)


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, column step and row step of each pass of an interlaced PNG."""


def interlaced(width: int, height: int) -> bytes:
    """An interlaced grey PNG of that size, with rows that all differ."""
    rows, level = b"", 0
    for left, top, across, down in PASSES:
        columns = len(range(left, width, across))
        for _ in range(top, height, down) if columns else ():
            rows += b"\0" + bytes((level + column) % 256 for column in range(columns))
            level += 37
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_forms() -> dict[str, bytes]:
    """PNGs of every pixel format that Pillow writes, and interlaced ones."""
    transparent = NOISE.convert("RGBA")
    transparent.putalpha(NOISE.convert("L"))
    deep = NOISE.convert("I").point(lambda value: value * 256 + 0).convert("I;16")
    images = {mode: NOISE.convert(mode) for mode in ("1", "L", "LA", "RGB")}
    images |= {"P": NOISE.quantize(200), "P4": NOISE.quantize(16), "RGBA": transparent, "I;16": deep}
    files = {name: encoded(image, "PNG") for name, image in images.items()}
    files["transparent palette"] = encoded(NOISE.quantize(4), "PNG", transparency=bytes((0, 100, 255, 255)))
    files["transparent colour"] = encoded(NOISE, "PNG", transparency=NOISE.getpixel((3, 3)))
    return files | {"interlaced": interlaced(5, 7), "interlaced, tiny": interlaced(1, 1)}


NOISE = noise()


PNG_FORMS = png_forms()


@pytest.mark.parametrize("name", PNG_FORMS)
def test_a_png_with_a_damaged_end_has_the_same_pixels(name: str) -> None:
    """All rows are there without IEND, the checksum of the last chunk and the checksum of the stream."""
    data = PNG_FORMS[name]
    complete = fingerprint(data)
    assert complete is not None
    assert [fingerprint(data[:-cut]) == complete for cut in (1, 4, 12, 14, 16, 18, 20)] == [True] * 7


@pytest.mark.parametrize("name", ["RGB", "P", "I;16", "1"])
def test_a_png_without_all_rows_is_rejected_whatever_else_is_damaged(name: str) -> None:
    data = PNG_FORMS[name]
    for cut in range(60, len(data) - 60, 97):
        assert fingerprint(data[:-cut]) is None
        assert fingerprint(with_chunk(data[:-cut], chunk(b"tEXt", b"a\0b", checksum=1))) is None


def png_of(stream: bytes, *, checksum: int | None = None) -> bytes:
    """The PNG of `NOISE` with this stream as its rows."""
    head = struct.pack(">IIBBBBB", *NOISE.size, 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", stream, checksum=checksum) + chunk(b"IEND", b"")


def test_rows_with_a_wrong_checksum_are_read_unless_the_checksum_of_their_chunk_is_wrong_too() -> None:
    """If only the stream's checksum is wrong, the encoder made a mistake; if both are wrong, the rows are damaged."""
    row_bytes, data = NOISE.width * 3, NOISE.tobytes()
    rows = b"".join(b"\0" + data[start : start + row_bytes] for start in range(0, len(data), row_bytes))
    stream = zlib.compress(rows)
    wrong = stream[:-4] + b"\1\2\3\4"
    complete = fingerprint(PNG_FORMS["RGB"])
    assert fingerprint(png_of(wrong)) == fingerprint(png_of(zlib.compress(rows + b"more"))) == complete
    assert fingerprint(png_of(stream, checksum=1)) == complete  # the stream's own checksum is right
    assert fingerprint(png_of(wrong, checksum=1)) is None


def test_a_png_with_a_damaged_header_or_palette_is_rejected() -> None:
    data = PNG_FORMS["P"]
    assert fingerprint(data[:20] + b"\1" + data[21:]) is None
    offset = data.index(b"PLTE") + 10
    assert fingerprint(data[:offset] + bytes((data[offset] ^ 1,)) + data[offset + 1 :]) is None


@pytest.mark.parametrize(("mode", "payload"), [("RGB", b""), ("RGB", b"\0\0\0"), ("L", b"\0"), ("RGBA", b"\0\0")])
def test_a_transparency_chunk_of_an_invalid_length_is_ignored(mode: str, payload: bytes) -> None:
    image = Image.new(mode, (9, 9), "white")
    data = encoded(image, "PNG")
    start = data.index(b"IDAT") - 4
    assert decode(data[:start] + chunk(b"tRNS", payload) + data[start:]).pixels.size == (9, 9)
