"""Laws of decoding: 8-bit RGB, upright, transparency on white, and the same pixels as Pillow's."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageOps

from blip_space.images import (
    decode,
)
from tests.images.image_bytes import (
    SIGNATURE,
    chunk,
    encoded,
    exif,
    noise,
    with_chunk,
)

SQUARE = Image.new("RGB", (40, 30), "navy")


def test_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees
    assert decode(encoded(SQUARE, "JPEG", exif=exif)).pixels.size == (30, 40)


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_the_first_of_several_frames_is_read(form: str) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    assert decode(data).pixels.getpixel((4, 4)) == (255, 0, 0)


def test_transparency_becomes_white() -> None:
    image = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    for transparent in (image, image.convert("LA"), image.quantize()):
        assert decode(encoded(transparent, "PNG")).pixels.getpixel((5, 5)) == (255, 255, 255)
    assert decode(encoded(image, "GIF")).pixels.getpixel((5, 5)) == (255, 255, 255)


def test_cmyk_and_palette_keep_their_colours() -> None:
    for mode, form in (("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG")):
        red, green, blue = decode(encoded(Image.new("RGB", (9, 9), "red").convert(mode), form)).pixels.getpixel((4, 4))  # type: ignore[misc]
        assert red > 250
        assert max(green, blue) < 10


@pytest.mark.parametrize("grey", [0, 0x4000, 0x8000, 0xFFFF])
def test_16_bit_grey_is_scaled_and_not_clipped(grey: int) -> None:
    image = Image.frombytes("I;16", (9, 9), struct.pack("<H", grey) * 81)
    level = decode(encoded(image, "PNG")).pixels.getpixel((4, 4))[0]  # type: ignore[index]
    assert abs(level - grey / 257) <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_extreme_shapes_are_read(size: tuple[int, int]) -> None:
    assert decode(encoded(Image.new("RGB", size), "PNG")).pixels.size == size


def test_the_digest_depends_on_the_bytes_and_not_on_the_name(tmp_path: Path) -> None:
    data = encoded(SQUARE, "PNG")
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.txt").write_bytes(data)
    digests = {decode(tmp_path / "a.png").digest, decode(tmp_path / "b.txt").digest, decode(data).digest}
    assert len(digests) == 1
    assert len(digests.pop()) == 64
    assert decode(encoded(noise(), "PNG")).digest != decode(data).digest


def test_an_image_with_a_colour_profile_is_read() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode(encoded(SQUARE, "PNG", icc_profile=profile)).pixels.size == (40, 30)


def decode_with_pillow(data: bytes) -> Image.Image:
    """An image of 8 bits decoded by Pillow alone: upright, transparency on white."""
    file = Image.open(io.BytesIO(data))
    file.load()
    image = ImageOps.exif_transpose(file)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


TRANSPARENT = noise().convert("RGBA")


FILES: dict[str, bytes] = {
    **{f"JPEG {mode}": encoded(noise().convert(mode), "JPEG", exif=exif(8)) for mode in ("L", "RGB", "CMYK")},
    **{f"JPEG {turn}": encoded(noise(), "JPEG", exif=exif(turn)) for turn in range(1, 10)},
    "JPEG progressive": encoded(noise(), "JPEG", progressive=True),
    "JPEG, its end damaged": encoded(noise(), "JPEG")[:900] + b"\xff\xd9",
    **{f"PNG {mode}": encoded(TRANSPARENT.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "PNG transparent colour": encoded(noise(), "PNG", transparency=noise().getpixel((5, 5)), exif=exif(3)),
    "PNG transparent palette": encoded(noise().quantize(9), "PNG", transparency=bytes(range(0, 250, 30))),
    "PNG, animated": encoded(noise(), "PNG", save_all=True, append_images=[noise()], default_image=True),
    "PNG, wrong checksum of a text after its rows": encoded(noise(), "PNG")[:-12] + chunk(b"tEXt", b"a\0b", checksum=1),
    **{
        f"WebP {mode}": encoded(TRANSPARENT.convert(mode), "WEBP", lossless=True, exif=exif())
        for mode in ("RGB", "RGBA")
    },
    "GIF": encoded(TRANSPARENT.quantize(40), "GIF"),
    "GIF transparent": encoded(noise().quantize(40), "GIF", transparency=7),
    **{f"BMP {mode}": encoded(noise().convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")},
    **{f"TIFF {mode}": encoded(TRANSPARENT.convert(mode), "TIFF") for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK")},
    **{
        f"TIFF {name}": encoded(noise(), "TIFF", compression=name, exif=exif())
        for name in ("tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg")
    },
}


@pytest.mark.parametrize("kind", FILES)
def test_a_valid_file_has_the_same_pixels_as_with_pillow_alone(kind: str) -> None:
    image, expected = decode(FILES[kind]).pixels, decode_with_pillow(FILES[kind])
    assert (image.size, image.tobytes()) == (expected.size, expected.tobytes())


@pytest.mark.parametrize("transparent", [1, 0x4000, 0x7FFF, 0xFFFF])
def test_only_the_transparent_level_of_16_bit_grey_becomes_white(transparent: int) -> None:
    """It was compared after scaling, when 257 levels are one: 0x4000 stayed grey, and others than 0 became white."""
    levels = (transparent, transparent - 1, 0x2000)
    image = Image.frombytes("I;16", (3, 1), struct.pack("<3H", *levels))
    data = encoded(image, "PNG")
    decoded = decode(with_chunk(data, chunk(b"tRNS", struct.pack(">H", transparent)))).pixels
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert [decoded.getpixel((x, 0))[0] for x in (1, 2)] == [level // 257 for level in levels[1:]]  # type: ignore[index]


@pytest.mark.parametrize(("depth", "transparent"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 3), (4, 1), (4, 15), (8, 1)])
def test_only_the_transparent_level_of_grey_of_few_bits_becomes_white(depth: int, transparent: int) -> None:
    """Pillow compares a level of 2 or 4 bits with pixels of 8, so no pixel was transparent."""
    white, levels = 2**depth - 1, (transparent, 0 if transparent else 1)
    row = 0
    for column, level in enumerate(levels):
        row |= level << (16 - depth * (column + 1))
    head = struct.pack(">IIBBBBB", 2, 1, depth, 0, 0, 0, 0)
    stream = zlib.compress(b"\0" + struct.pack(">H", row))
    chunks = [(b"IHDR", head), (b"tRNS", struct.pack(">H", transparent)), (b"IDAT", stream), (b"IEND", b"")]
    image = decode(SIGNATURE + b"".join(chunk(*content) for content in chunks)).pixels
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255,) * 3, (levels[1] * 255 // white,) * 3]
