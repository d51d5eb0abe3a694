"""Laws of damaged WebP, GIF, TIFF and AVIF files: only missing pixels make an image unreadable."""

from __future__ import annotations

import random
import struct

import pytest
from PIL import Image

from blip_space.images import (
    decode,
)
from tests.images.image_bytes import (
    disc,
    encoded,
    exif,
    fingerprint,
    needs_avif,
    noise,
)

NOISE = noise()


@pytest.mark.parametrize("lossless", [True, False])
def test_no_metadata_makes_a_webp_unreadable(lossless: bool) -> None:
    plain = encoded(disc(), "WEBP", lossless=lossless)
    full = encoded(disc(), "WEBP", lossless=lossless, exif=exif(1), icc_profile=b"x" * 99, xmp=b"<x/>")
    complete = fingerprint(plain)
    assert fingerprint(full) == complete
    damaged = [full[:-1], full[:-20], full[:4] + b"\xff\xff\xff\0" + full[8:], full + b"EXIF\xff\xff\0\0x"]
    assert [fingerprint(data) == complete for data in damaged] == [True] * 4
    assert fingerprint(full[: full.index(b"VP8" + (b"L" if lossless else b" ")) + 40]) is None


def test_the_first_frame_of_an_animated_webp_that_was_cut_off_is_read() -> None:
    data = encoded(disc(), "WEBP", save_all=True, append_images=[noise((224, 168))], lossless=True)
    assert fingerprint(data[:-50]) == fingerprint(data)
    assert fingerprint(data[:200]) is None


def test_a_gif_without_its_end_is_read_and_one_without_all_rows_is_rejected() -> None:
    data = encoded(NOISE.quantize(64), "GIF")
    assert fingerprint(data[:-1]) == fingerprint(data[:-2]) == fingerprint(data)
    assert fingerprint(data[:-200]) is None
    animated = encoded(disc().quantize(8), "GIF", save_all=True, append_images=[disc((224, 168)).quantize(4)])
    assert fingerprint(animated[:-1]) == fingerprint(animated)


def test_a_gif_whose_last_block_lacks_bytes_that_no_row_needs_is_read() -> None:
    """The end code may have a byte of its own, and Pillow waits for the complete block."""
    data = encoded(NOISE.quantize(64), "GIF")
    end = data.rindex(b"\0;")
    last = end - 1 - next(size for size in range(1, 256) if is_block(data, end, size))
    longer = data[:last] + bytes((data[last] + 9,)) + data[last + 1 : end]
    assert fingerprint(longer) == fingerprint(data)


def is_block(data: bytes, end: int, size: int) -> bool:
    """Whether the last block of the coded data before `end` has that size, and all others are full."""
    start = end - 1 - size
    return data[start] == size and data[start - 256] == 255


def big_endian_tiff() -> bytes:
    """A grey TIFF of 2 x 2 pixels in big-endian byte order, with a description."""
    entries = [(256, 3, 1, 2 << 16), (257, 3, 1, 2 << 16), (258, 3, 1, 8 << 16), (259, 3, 1, 1 << 16)]
    entries += [(262, 3, 1, 1 << 16), (270, 2, 5, 8), (273, 4, 1, 16), (278, 3, 1, 2 << 16), (279, 4, 1, 4)]
    directory = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return b"MM\0*" + struct.pack(">I", 20) + b"text\0\0\0\0" + bytes((10, 90, 160, 250)) + directory + bytes(4)


TIFFS = {
    **{
        name: (encoded(disc(), "TIFF", compression=name, description="x" * 99, icc_profile=b"x" * 99), "<I", 4, 2, 12)
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")
    },
    "big-endian": (big_endian_tiff(), ">I", 4, 2, 12),
    "BigTIFF": (encoded(disc(), "TIFF", big_tiff=True, description="x" * 99), "<Q", 8, 8, 20),
}
"""Each file, the struct format of its offsets, where the directory's offset is, and the sizes of count and entries."""


METADATA_TAGS = {struct.pack(order + "HH", tag, kind) for order in "<>" for tag, kind in ((270, 2), (34675, 7))}
"""The first bytes of the entries of a description and a profile."""


@pytest.mark.parametrize("kind", TIFFS)
def test_no_metadata_makes_a_tiff_unreadable(kind: str) -> None:
    data, offset, offset_at, count_bytes, entry_bytes = TIFFS[kind]
    (start,) = struct.unpack_from(offset, data, offset_at)
    entries = range(start + count_bytes, len(data) - entry_bytes, entry_bytes)
    metadata = [entry for entry in entries if data[entry : entry + 4] in METADATA_TAGS]
    assert metadata
    for entry in metadata:
        for count, value_at in ((0xFFFFFF, 0x7FFFFFF0), (50, len(data) - 3)):
            wrong = struct.pack(offset, count) + struct.pack(offset, value_at)
            assert fingerprint(data[: entry + 4] + wrong + data[entry + entry_bytes :]) == fingerprint(data)


def test_a_tiff_without_all_rows_or_without_a_required_tag_is_rejected() -> None:
    data = encoded(noise(), "TIFF", description="x" * 99)
    assert {fingerprint(data[:-cut]) for cut in (1, 7, 60, 200, 2_000, len(data) - 100)} == {None}
    (start,) = struct.unpack_from("<I", data, 4)
    assert fingerprint(data[: start + 4] + b"\x63\0" + data[start + 6 :]) is None


@needs_avif
def test_damaged_exif_does_not_make_an_avif_unreadable() -> None:
    data = encoded(disc(), "AVIF", exif=exif())
    offset = data.index(b"MM\0*")
    assert fingerprint(data[:offset] + b"none" + data[offset + 4 :]) == fingerprint(data)
    assert decode(data).pixels.size == (168, 224)
    assert fingerprint(data[:-100]) is None


@pytest.mark.parametrize("seed", range(8))
def test_an_extension_without_content_does_not_change_the_size_of_a_gif(seed: int) -> None:
    """Pillow read pixels as the image's size, which was then rejected as too large."""
    rng = random.Random(seed)
    image = Image.frombytes("P", (320, 240), bytes(rng.randrange(256) for _ in range(320 * 240)))
    image.putpalette(bytes(range(256)) * 3)
    data = encoded(image, "GIF")
    header = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    damaged = data[:header] + b"\x21\xff\x0bNETSCAPE2.0\0" + data[header:]
    assert decode(damaged).pixels.tobytes() == decode(data).pixels.tobytes()
