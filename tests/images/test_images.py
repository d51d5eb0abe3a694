"""Laws of reading pictures: every limit has a sentence, and what is read is shown right."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, ImageOps, features

from blip_space import images
from blip_space.errors import ImageError
from blip_space.images import MAX_UPLOAD_BYTES, decode, flattening, heif
from tests.images.image_bytes import SIGNATURE, chunk, disc, encoded, exif, noise, with_chunk

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")


def png_header(width: int, height: int) -> bytes:
    """A PNG of that many white pixels, a few kilobytes long whatever the size says."""

    rows = zlib.compress(b"\0" * (1 + width // 8) * min(height, 2_000), 9)
    start = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


SQUARE = Image.new("RGB", (40, 30), "navy")
NOISE = Image.effect_noise((64, 64), 90).convert("RGB")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
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


def as_before(data: bytes) -> Image.Image:
    """How an image of 8 bits was read before damaged files were: Pillow alone, turned, on white."""
    opened = Image.open(io.BytesIO(data))
    opened.load()
    image = ImageOps.exif_transpose(opened)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


CLEAR = noise().convert("RGBA")
CLEAR.putalpha(noise().convert("L"))
TODAY: dict[str, bytes] = {
    **{f"JPEG {mode}": encoded(noise().convert(mode), "JPEG", exif=exif(8)) for mode in ("L", "RGB", "CMYK")},
    **{f"JPEG {turn}": encoded(noise(), "JPEG", exif=exif(turn)) for turn in range(1, 10)},
    "JPEG progressive": encoded(noise(), "JPEG", progressive=True),
    "JPEG, its end damaged": encoded(noise(), "JPEG")[:900] + b"\xff\xd9",
    **{f"PNG {mode}": encoded(CLEAR.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "PNG transparent colour": encoded(noise(), "PNG", transparency=noise().getpixel((5, 5)), exif=exif(3)),
    "PNG transparent palette": encoded(noise().quantize(9), "PNG", transparency=bytes(range(0, 250, 30))),
    "PNG moving": encoded(noise(), "PNG", save_all=True, append_images=[noise()], default_image=True),
    "PNG, wrong checksum of a text behind its rows": encoded(noise(), "PNG")[:-12]
    + chunk(b"tEXt", b"a\0b", checksum=1),
    **{f"WebP {mode}": encoded(CLEAR.convert(mode), "WEBP", lossless=True, exif=exif()) for mode in ("RGB", "RGBA")},
    "GIF": encoded(CLEAR.quantize(40), "GIF"),
    "GIF transparent": encoded(noise().quantize(40), "GIF", transparency=7),
    **{f"BMP {mode}": encoded(noise().convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")},
    **{f"TIFF {mode}": encoded(CLEAR.convert(mode), "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK")},
    **{
        f"TIFF {name}": encoded(noise(), "TIFF", compression=name, exif=exif())
        for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")
    },
}


@pytest.mark.parametrize("kind", TODAY)
def test_what_was_read_before_shows_the_same_pixels(kind: str) -> None:
    shown, before = decode(TODAY[kind]).pixels, as_before(TODAY[kind])
    assert (shown.size, shown.tobytes()) == (before.size, before.tobytes())


@needs_avif
def test_an_avif_is_read_turned_and_its_first_frame(tmp_path: Path) -> None:
    """Case avif: websites serve images so today, also under the ending of another format."""
    (tmp_path / "disc.jpg").write_bytes(encoded(disc(), "AVIF", exif=exif(), xmp=b"<x/>"))
    turned = decode(tmp_path / "disc.jpg").pixels
    assert turned.size == (168, 224)
    assert near(turned.getpixel((84, 112)), (255, 0, 0))
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("lime", "red")]
    moving = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert near(decode(moving).pixels.getpixel((9, 9)), (0, 255, 0))
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    assert decode(encoded(clear, "AVIF")).pixels.getpixel((9, 9)) == (255, 255, 255)


def near(colour: Any, wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 8 for a, b in zip(colour, wanted, strict=True))


HEIC_STUB = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_a_heic_is_read_where_pillow_heif_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(disc()).save(file, quality=90)
    data = file.getvalue()
    shown = decode(data).pixels
    assert shown.size == (224, 168)
    assert near(shown.getpixel((112, 84)), (255, 0, 0))
    with pytest.raises(ImageError, match=r"HEIC.*damaged or was cut off"):
        decode(data[:-100])
    assert "HEIF" not in Image.OPEN  # reading them changes nothing of how Pillow opens other files


def test_without_pillow_heif_a_heic_is_a_sentence_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "is_installed", lambda: False)
    with pytest.raises(ImageError, match=r"pip install pillow-heif.*Save it as JPEG"):
        decode(HEIC_STUB)


@pytest.mark.parametrize(
    ("data", "sentence"),
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
def test_files_of_other_kinds_are_told_as_what_they_are(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        decode(data)


def test_limits_in_sentences_add_up(tmp_path: Path) -> None:
    """Case telephone-64-megapixels: "20.0 MB, and at most 20 MB are read" and its like helped nobody."""
    (tmp_path / "big").write_bytes(bytes(MAX_UPLOAD_BYTES + 2))
    assert len(images.read_file(tmp_path / "big")) == MAX_UPLOAD_BYTES + 1
    with pytest.raises(ImageError, match="larger than 20 MB"):
        decode(tmp_path / "big")
    assert len(images.read_file(tmp_path / "big", max_bytes=7)) == 8
    with pytest.raises(ImageError, match=r"at most 2\.5 MB"):
        decode(bytes(2_500_001), max_bytes=2_500_000)
    assert images.MAX_FILE_BYTES > MAX_UPLOAD_BYTES


@pytest.mark.parametrize("transparent", [1, 0x4000, 0x7FFF, 0xFFFF])
def test_a_transparent_deep_grey_is_white_and_no_other_grey_is(transparent: int) -> None:
    """It was compared after scaling, when 257 greys are one, so 0x4000 stayed and more than 0 became white."""
    levels = (transparent, transparent - 1, 0x2000)
    image = Image.frombytes("I;16", (3, 1), struct.pack("<3H", *levels))
    data = encoded(image, "PNG")
    shown = decode(with_chunk(data, chunk(b"tRNS", struct.pack(">H", transparent)))).pixels
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert [shown.getpixel((x, 0))[0] for x in (1, 2)] == [level // 257 for level in levels[1:]]  # type: ignore[index]


@pytest.mark.parametrize(("depth", "transparent"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 3), (4, 1), (4, 15), (8, 1)])
def test_a_transparent_grey_of_few_bits_is_white_and_no_other_grey_is(depth: int, transparent: int) -> None:
    """Pillow compares a level of 2 or 4 bits with pixels of 8, so none was transparent."""
    white, levels = 2**depth - 1, (transparent, 0 if transparent else 1)
    row = 0
    for place, level in enumerate(levels):
        row |= level << (16 - depth * (place + 1))
    head = struct.pack(">IIBBBBB", 2, 1, depth, 0, 0, 0, 0)
    stream = zlib.compress(b"\0" + struct.pack(">H", row))
    parts = [(b"IHDR", head), (b"tRNS", struct.pack(">H", transparent)), (b"IDAT", stream), (b"IEND", b"")]
    shown = decode(SIGNATURE + b"".join(chunk(*part) for part in parts)).pixels
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [(255,) * 3, (levels[1] * 255 // white,) * 3]


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading image file")])
def test_memory_that_runs_out_is_told_as_such(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It was told as damage, and written down as the fault of the file."""

    def load(_: Image.Image) -> None:
        raise error

    monkeypatch.setattr(flattening, "flat", load)
    with pytest.raises(ImageError, match="not enough memory"):
        decode(encoded(SQUARE, "PNG"))


def test_endings_are_pillows_and_those_that_people_meet() -> None:
    """Case endings-of-pictures."""
    wanted = ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .hif .mpo .jpg_large"
    assert set(wanted.split()) <= images.EXTENSIONS
    assert all(ending == ending.lower() and ending.startswith(".") for ending in images.EXTENSIONS)
    assert not images.EXTENSIONS & {".mp4", ".txt", ".zip", ".psd", ".svg"}


def test_a_picture_is_known_by_its_first_bytes() -> None:
    files = [encoded(disc(), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    files += [encoded(disc(), "TIFF", big_tiff=True), b"MM\0*\0\0\0\x08" + bytes(40), HEIC_STUB]
    files += [b"\0\0\0\x20ftyp" + brand + b"\0\0\0\0mif1miaf" for brand in (b"avif", b"avis", b"mif1", b"heix")]
    assert all(images.is_image(file[:32]) for file in files)
    others = [b"", b"BM", b"BMW is a car, and this is a text about it", b"RIFF\0\0\0\0WAVEfmt ", b"\xff\xd8", b"GIF"]
    others += [b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", b"PK\3\4", b"%PDF"]
    assert not any(images.is_image(other[:32]) for other in others)
    assert all(images.is_image(file[:end]) in (True, False) for file in files for end in range(32))
