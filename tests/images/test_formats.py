"""Laws of formats: every supported format is read, and every other file is rejected with a message that fits."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_space import images
from blip_space.errors import ImageError
from blip_space.images import (
    MAX_UPLOAD_BYTES,
    decode,
    flattening,
    heif,
)
from tests.images.image_bytes import (
    HEIC_STUB,
    chunk,
    disc,
    encoded,
    exif,
    needs_avif,
    noise,
    with_chunk,
)

SQUARE = Image.new("RGB", (40, 30), "navy")
NOISE = noise((64, 64))


def png_header(width: int, height: int) -> bytes:
    """A PNG of that many white pixels in a few kilobytes, at any size."""

    rows = zlib.compress(b"\0" * (1 + width // 8) * min(height, 2_000), 9)
    start = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
def test_every_supported_format_is_read(form: str) -> None:
    pixels = decode(encoded(SQUARE, form)).pixels
    assert (pixels.mode, pixels.size) == ("RGB", (40, 30))
    assert max(abs(a - b) for a, b in zip(pixels.getpixel((20, 15)), (0, 0, 128), strict=True)) < 6  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"hello, I am a text", "not an image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Export the drawing as PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "Save it as JPEG"),
        (encoded(NOISE, "JPEG")[:900], "damaged or was cut off"),
        (encoded(NOISE, "PNG")[:900], "damaged or was cut off"),
        (png_header(12_000, 12_000), "144 megapixels"),
        (png_header(16_000, 16_000), "256 megapixels"),
        (png_header(8_000, 8_001), r"64\.01 megapixels"),
        (b"x" * (MAX_UPLOAD_BYTES + 1), "at most 20 MB"),
    ],
    ids=[
        "empty",
        "text",
        "svg",
        "heic",
        "cut-jpeg",
        "cut-png",
        "144-megapixels",
        "256-megapixels",
        "64-megapixels-and-a-row",
        "20-MB",
    ],
)
def test_an_unreadable_file_is_rejected_with_its_reason(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode(data)


def test_messages_about_a_missing_file_and_a_folder_contain_no_path(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ImageError) as caught:
            decode(path)
        assert str(tmp_path.parent) not in str(caught.value)


@needs_avif
def test_the_first_frame_of_an_avif_is_read_upright(tmp_path: Path) -> None:
    """Case avif: websites serve such images, also with the extension of another format."""
    (tmp_path / "disc.jpg").write_bytes(encoded(disc(), "AVIF", exif=exif(), xmp=b"<x/>"))
    turned = decode(tmp_path / "disc.jpg").pixels
    assert turned.size == (168, 224)
    assert near(turned.getpixel((84, 112)), (255, 0, 0))
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("lime", "red")]
    animated = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert near(decode(animated).pixels.getpixel((9, 9)), (0, 255, 0))
    transparent = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    assert decode(encoded(transparent, "AVIF")).pixels.getpixel((9, 9)) == (255, 255, 255)


def near(colour: Any, expected: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 8 for a, b in zip(colour, expected, strict=True))


def test_a_heic_is_read_if_pillow_heif_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(disc()).save(file, quality=90)
    data = file.getvalue()
    image = decode(data).pixels
    assert image.size == (224, 168)
    assert near(image.getpixel((112, 84)), (255, 0, 0))
    with pytest.raises(ImageError, match=r"HEIC.*damaged or was cut off"):
        decode(data[:-100])
    assert "HEIF" not in Image.OPEN  # Pillow opens other files as before


def test_without_pillow_heif_the_message_about_a_heic_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "is_installed", lambda: False)
    with pytest.raises(ImageError, match=r"pip install pillow-heif.*Save it as JPEG"):
        decode(HEIC_STUB)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEIC_STUB, "HEIC"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(40), "Videos are not read"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(40), "Videos are not read"),
        (b"\x1aE\xdf\xa3" + bytes(40), "Videos are not read"),
        (b"RIFF\0\0\0\0AVI LIST", "Videos are not read"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "Raw files of cameras"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(40), "Raw files of cameras"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", "Export the drawing as PNG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (with_chunk(encoded(disc(), "PNG")[:8] + b"\0\0\0\4CgBIP\0\x20\2+\xd5\xb3\x7f", b""), "pngcrush"),
    ],
)
def test_the_message_about_an_unsupported_file_names_its_format(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode(data)


def test_numbers_in_messages_about_limits_are_consistent(tmp_path: Path) -> None:
    """Case telephone-64-megapixels: "20.0 MB, and at most 20 MB are read" and similar messages were no help."""
    (tmp_path / "big").write_bytes(bytes(MAX_UPLOAD_BYTES + 2))
    assert len(images.read_file(tmp_path / "big")) == MAX_UPLOAD_BYTES + 1
    with pytest.raises(ImageError, match="larger than 20 MB"):
        decode(tmp_path / "big")
    assert len(images.read_file(tmp_path / "big", max_bytes=7)) == 8
    with pytest.raises(ImageError, match=r"at most 2\.5 MB"):
        decode(bytes(2_500_001), max_bytes=2_500_000)
    assert images.MAX_FILE_BYTES > MAX_UPLOAD_BYTES


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading image file")])
def test_running_out_of_memory_is_reported_as_such(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It was reported and recorded as a damaged file."""

    def load(_: Image.Image) -> None:
        raise error

    monkeypatch.setattr(flattening, "flatten", load)
    with pytest.raises(ImageError, match="not enough memory"):
        decode(encoded(SQUARE, "PNG"))


def test_extensions_are_pillows_and_others_that_occur() -> None:
    """Case endings-of-pictures."""
    common = ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .hif .mpo .jpg_large"
    assert set(common.split()) <= images.EXTENSIONS
    assert all(name == name.lower() and name.startswith(".") for name in images.EXTENSIONS)
    assert not images.EXTENSIONS & {".mp4", ".txt", ".zip", ".psd", ".svg"}


def test_an_image_is_recognised_by_its_first_bytes() -> None:
    files = [encoded(disc(), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    files += [encoded(disc(), "TIFF", big_tiff=True), b"MM\0*\0\0\0\x08" + bytes(40), HEIC_STUB]
    files += [b"\0\0\0\x20ftyp" + brand + b"\0\0\0\0mif1miaf" for brand in (b"avif", b"avis", b"mif1", b"heix")]
    assert all(images.is_image(file[:32]) for file in files)
    others = [b"", b"BM", b"BMW is a car, and this is a text about it", b"RIFF\0\0\0\0WAVEfmt ", b"\xff\xd8", b"GIF"]
    others += [b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", b"PK\3\4", b"%PDF"]
    assert not any(images.is_image(other[:32]) for other in others)
    assert all(images.is_image(file[:end]) in (True, False) for file in files for end in range(32))
