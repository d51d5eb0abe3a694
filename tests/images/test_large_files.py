"""Laws of large images: a JPEG is reduced by its decoder, and the message has the limit of the format."""

from __future__ import annotations

import io

import pytest
from PIL import Image, JpegImagePlugin

from blip_space.errors import ImageError
from blip_space.images import MAX_PIXELS, decode, jpeg
from tests.images.image_bytes import disc, encoded, exif, with_segment, with_size

TELEPHONE = (9_248, 6_936)
"""The 64-megapixel mode of a telephone, a little more than `MAX_PIXELS`."""


def large(mode: str, **options: object) -> bytes:
    """A JPEG of that size, with a red disc."""
    return encoded(disc(TELEPHONE).convert(mode), "JPEG", quality=30, **options)


@pytest.fixture(scope="module")
def photograph() -> bytes:
    return large("RGB")


def eighth(data: bytes) -> Image.Image:
    """The same image, opened by Pillow at an eighth of its size."""
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    image.draft(None, (image.width // 8, image.height // 8))
    return image.convert("RGB")


def test_64_megapixels_of_a_telephone_are_read_at_an_eighth(photograph: bytes) -> None:
    """Case telephone-64-megapixels: "64 megapixels; at most 64 megapixels are read" was its message."""
    image = decode(photograph).pixels
    assert image.size == (1_156, 867)
    assert image.tobytes() == eighth(photograph).tobytes()


@pytest.mark.parametrize(("mode", "progressive"), [("L", False), ("CMYK", False), ("RGB", True)])
def test_large_grey_cmyk_and_progressive_jpegs_are_read_at_an_eighth(mode: str, progressive: bool) -> None:
    data = large(mode, progressive=progressive)
    assert decode(data).pixels.tobytes() == eighth(data).tobytes()


def test_a_large_jpeg_is_made_upright_and_read_without_its_end_marker(photograph: bytes) -> None:
    turned = with_segment(photograph, 0xE1, exif())
    assert decode(turned).pixels.size == decode(turned[:-2]).pixels.size == (867, 1_156)
    assert decode(photograph[:-2]).pixels.tobytes() == decode(photograph).pixels.tobytes()
    with pytest.raises(ImageError, match="damaged or was cut off"):
        decode(photograph[: len(photograph) // 2])


def test_a_thin_image_keeps_the_pixels_of_its_shorter_side() -> None:
    header = jpeg.read_header(with_size(encoded(disc(), "JPEG"), 65_000, 1_000))
    assert header is not None
    assert header.reduction(MAX_PIXELS) == 2
    wide = jpeg.read_header(with_size(encoded(disc(), "JPEG"), 40_000, 3_000))
    assert wide is not None
    assert wide.reduction(MAX_PIXELS) == 4


SMALL = encoded(disc(), "JPEG")
PROGRESSIVE = encoded(disc(), "JPEG", progressive=True)
CMYK = encoded(disc().convert("CMYK"), "JPEG", progressive=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_size(SMALL, 20_000, 10_001), r"200\.02 megapixels.*limit for a JPEG is 200 megapixels"),
        (with_size(SMALL, 65_000, 65_000), r"4225 megapixels.*limit for a JPEG is 200 megapixels"),
        (with_size(PROGRESSIVE, 16_000, 9_000), r"144 megapixels.*limit.*progressive JPEG is 133 megapixels"),
        (with_size(CMYK, 12_000, 9_000), r"108 megapixels.*limit.*progressive JPEG is 100 megapixels"),
        (
            encoded(Image.new("1", (8_000, 8_001)), "PNG"),
            r"64\.01 megapixels.*limit is 64 megapixels, or 200 for a JPEG",
        ),
        (encoded(Image.new("1", (8_000, 8_001)), "GIF"), r"64\.01 megapixels.*limit is 64 megapixels"),
        (encoded(Image.new("1", (8_000, 8_001)), "TIFF", compression="group4"), r"64\.01 megapixels.*limit is 64 "),
    ],
    ids=["200", "4225", "progressive", "progressive-cmyk", "png", "gif", "tiff"],
)
def test_a_larger_image_is_rejected_with_the_limit_of_its_format(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode(data)


def test_a_second_frame_in_a_jpeg_does_not_pass_the_limits() -> None:
    """The first frame has 108 megapixels, but Pillow uses the last: it would decode 4 gigapixels."""
    honest = with_size(SMALL, 12_000, 9_000)
    frame = SMALL[SMALL.index(b"\xff\xc0") :][:19]
    forged = honest.replace(b"\xff\xda", with_size(frame, 65_000, 65_000) + b"\xff\xda", 1)
    with pytest.raises(ImageError, match="66 megapixels"):
        decode(forged)
