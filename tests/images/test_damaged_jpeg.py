"""Laws of damaged JPEGs: only missing pixels make an image unreadable."""

from __future__ import annotations

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
    noise,
    with_segment,
)

JPEG_OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "full-colours": {"subsampling": 0, "quality": 95},
    "optimized": {"optimize": True},
    "restarts": {"restart_marker_blocks": 3},
    "restart-rows": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "progressive-restarts": {"progressive": True, "restart_marker_rows": 2},
}


MODES = ("RGB", "L", "CMYK")


@pytest.mark.parametrize("options", JPEG_OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_jpeg_without_its_end_marker_shows_the_same_pixels(mode: str, options: str) -> None:
    """Case jpeg-without-its-end: viewers show all of it, but it was rejected as damaged."""
    data = encoded(noise().convert(mode), "JPEG", **JPEG_OPTIONS[options])
    for end in (b"", b"\xff", b"\xff\xff\xff\xff"):
        assert fingerprint(data[:-2] + end) == fingerprint(data)


@pytest.mark.parametrize("options", JPEG_OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_jpeg_without_all_rows_is_rejected_wherever_it_is_cut(mode: str, options: str) -> None:
    data = encoded(noise().convert(mode), "JPEG", **JPEG_OPTIONS[options])
    complete = fingerprint(data)
    assert {fingerprint(data[:-cut]) for cut in range(3, 10)} <= {
        None,
        complete,
    }  # the missing bytes may belong to no row
    assert {fingerprint(data[:-cut]) for cut in range(40, len(data) - 20, 61)} == {None}


def test_a_grey_jpeg_without_all_rows_is_rejected_although_missing_rows_are_filled_with_grey() -> None:
    data = encoded(Image.new("RGB", (160, 160), (128, 128, 128)), "JPEG")
    assert fingerprint(data[:-2]) == fingerprint(data)
    assert fingerprint(data[: -len(data) // 4]) is None


def test_a_jpeg_without_some_detail_of_its_last_block_is_read() -> None:
    data = encoded(noise((320, 240)), "JPEG", quality=95)
    cut, complete = decode(data[:-4]).pixels, decode(data).pixels
    for box in ((0, 0, 320, 224), (0, 0, 304, 240)):
        assert cut.crop(box).tobytes() == complete.crop(box).tobytes()


def test_a_progressive_jpeg_without_its_last_scan_is_rejected() -> None:
    data = encoded(noise(), "JPEG", progressive=True)
    assert fingerprint(data[: data.rindex(b"\xff\xda")]) is None


def test_zeros_after_a_cut_jpeg_are_not_read_as_rows() -> None:
    """Disks leave them after an interrupted copy. Pillow reads them where it expects no restart marker."""
    data = encoded(noise(), "JPEG", restart_marker_blocks=3)
    assert fingerprint(data[:-2] + bytes(4_096)) == fingerprint(data)
    assert fingerprint(data[: -len(data) // 4] + bytes(4_096)) is None


def test_another_image_after_a_jpeg_without_its_end_marker_is_not_read_as_a_part_of_it() -> None:
    data = encoded(noise(), "JPEG", restart_marker_blocks=3)
    assert fingerprint(data[:-2] + encoded(disc(), "JPEG")[:-2]) == fingerprint(data)
    assert fingerprint(data[: -len(data) // 4] + encoded(disc(), "JPEG")[:-2]) is None


def test_the_codes_of_an_image_of_one_colour_may_be_zeros() -> None:
    data = encoded(Image.new("RGB", (64, 64), (128, 128, 128)), "JPEG", optimize=True)
    assert fingerprint(data[:-2]) == fingerprint(data)


JPEG_METADATA = {
    "a profile without its numbers": (0xE2, b"ICC_PROFILE\0"),
    "a profile of which a part is missing": (0xE2, b"ICC_PROFILE\0\x01\x03" + b"x" * 100),
    "an empty JFIF": (0xE0, b"JFIF"),
    "a short Adobe segment": (0xEE, b"Adobe"),
    "Photoshop's resources, cut": (0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed"),
    "an index of several images, cut": (0xE2, b"MPF\0MM\0*\0\0\0\x08\0\x03\xb0\0\0\x07\0\0\0\x040100\xb0\x01\0\x04"),
    "an invalid index of several images": (0xE2, b"MPF\0" + b"x" * 40),
    "a long comment": (0xFE, b"x" * 65_000),
    "invalid EXIF": (0xE1, b"Exif\0\0" + b"x" * 40),
    "EXIF that ends early": (0xE1, exif()[:40]),
    "EXIF that ends in its header": (0xE1, b"Exif\0\0MM\0*\0"),
    "EXIF with an offset far beyond its end": (0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xf0"),
}


@pytest.mark.parametrize("kind", JPEG_METADATA)
@pytest.mark.parametrize("end", ["complete", "without its end"])
def test_no_metadata_makes_a_jpeg_unreadable(kind: str, end: str) -> None:
    """Case exif-that-ends-early and similar ones, also combined with a missing end marker."""
    plain = encoded(disc(), "JPEG")
    data = with_segment(plain, *JPEG_METADATA[kind])
    image = decode(data if end == "complete" else data[:-2]).pixels
    assert sorted(image.size) == [168, 224]  # the orientation before the early end may be applied
    assert image.size != (224, 168) or image.tobytes() == decode(plain).pixels.tobytes()


def test_a_repaired_jpeg_keeps_the_adobe_segment_and_so_its_colours() -> None:
    """It says that the components are CMYK, or RGB instead of YCbCr; without it all colours would be wrong."""
    for image in (disc().convert("CMYK"), disc()):
        data = encoded(image, "JPEG", keep_rgb=image.mode == "RGB")
        assert fingerprint(with_segment(data[:-2], 0xE2, b"ICC_PROFILE\0")) == fingerprint(data)
