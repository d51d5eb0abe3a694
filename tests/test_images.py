"""Laws of reading pictures: every limit has a sentence, and what is read is shown right."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from blip_space.errors import ImageError
from blip_space.images import MAX_BYTES, decode


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of a picture in a format."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG of that many white pixels, a few kilobytes long whatever the size says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * (1 + width // 8) * min(height, 2_000), 9)
    start = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


SQUARE = Image.new("RGB", (40, 30), "navy")
NOISE = Image.effect_noise((64, 64), 90).convert("RGB")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_that_is_promised_is_read(form: str) -> None:
    pixels = decode(encoded(SQUARE, form)).pixels
    assert (pixels.mode, pixels.size) == ("RGB", (40, 30))
    assert max(abs(a - b) for a, b in zip(pixels.getpixel((20, 15)), (0, 0, 128), strict=True)) < 6  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"hello, I am a text", "not a picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Export the drawing as PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "Save it as JPEG"),
        (encoded(NOISE, "JPEG")[:900], "damaged or was cut off"),
        (encoded(NOISE, "PNG")[:900], "damaged or was cut off"),
        (png_header(12_000, 12_000), "144 megapixels"),
        (png_header(16_000, 16_000), "too large"),
        (b"x" * (MAX_BYTES + 1), "at most 20 MB"),
    ],
    ids=["empty", "text", "svg", "heic", "cut-jpeg", "cut-png", "144-megapixels", "256-megapixels", "20-MB"],
)
def test_what_cannot_be_read_is_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        decode(data)


def test_a_missing_file_and_a_folder_are_sentences_without_a_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ImageError) as caught:
            decode(path)
        assert str(tmp_path.parent) not in str(caught.value)


def test_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    assert decode(encoded(SQUARE, "JPEG", exif=exif)).pixels.size == (30, 40)


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_of_many_frames_the_first_is_read(form: str) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert decode(data).pixels.getpixel((4, 4)) == (255, 0, 0)


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    clear.putpixel((0, 0), (255, 0, 0, 255))
    for picture, form in ((clear, "PNG"), (clear.convert("LA"), "PNG"), (clear.quantize(), "PNG"), (clear, "GIF")):
        assert decode(encoded(picture, form)).pixels.getpixel((5, 5)) == (255, 255, 255)


def test_cmyk_and_palette_keep_their_colours() -> None:
    for mode, form in (("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG")):
        red, green, blue = decode(encoded(Image.new("RGB", (9, 9), "red").convert(mode), form)).pixels.getpixel((4, 4))  # type: ignore[misc]
        assert red > 250
        assert max(green, blue) < 10


@pytest.mark.parametrize("deep", [0, 0x4000, 0x8000, 0xFFFF])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(deep: int) -> None:
    picture = Image.frombytes("I;16", (9, 9), struct.pack("<H", deep) * 81)
    level = decode(encoded(picture, "PNG")).pixels.getpixel((4, 4))[0]  # type: ignore[index]
    assert abs(level - deep / 257) <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_extreme_shapes_are_read(size: tuple[int, int]) -> None:
    assert decode(encoded(Image.new("RGB", size), "PNG")).pixels.size == size


def test_the_digest_is_of_the_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    data = encoded(SQUARE, "PNG")
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.txt").write_bytes(data)
    digests = {decode(tmp_path / "a.png").digest, decode(tmp_path / "b.txt").digest, decode(data).digest}
    assert len(digests) == 1
    assert len(digests.pop()) == 64
    assert decode(encoded(NOISE, "PNG")).digest != decode(data).digest


def test_a_colour_profile_does_no_harm() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode(encoded(SQUARE, "PNG", icc_profile=profile)).pixels.size == (40, 30)
