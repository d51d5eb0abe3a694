"""Laws of damaged files: pixels decide whether an image is read, and what else is in the file does not."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib

import pytest
from PIL import Image, features

from blip_space.errors import ImageError
from blip_space.images import decode
from tests.images.image_bytes import SIGNATURE, chunk, disc, encoded, exif, noise, with_chunk, with_segment

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


def pixels(data: bytes) -> str | None:
    """What is shown of a file, by its size and a digest, or None where it is refused as damaged."""
    try:
        image = decode(data).pixels
    except ImageError as error:
        if "damaged or was cut off" not in str(error):
            raise
        return None
    return f"{image.size} {hashlib.sha256(image.tobytes()).hexdigest()}"


@pytest.mark.parametrize("options", JPEG_OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_jpeg_without_its_end_marker_shows_the_same_pixels(mode: str, options: str) -> None:
    """Case jpeg-without-its-end: viewers show it whole, and it was refused as damaged."""
    data = encoded(noise().convert(mode), "JPEG", **JPEG_OPTIONS[options])
    for end in (b"", b"\xff", b"\xff\xff\xff\xff"):
        assert pixels(data[:-2] + end) == pixels(data)


@pytest.mark.parametrize("options", JPEG_OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_a_jpeg_that_lacks_rows_is_refused_wherever_it_is_cut(mode: str, options: str) -> None:
    data = encoded(noise().convert(mode), "JPEG", **JPEG_OPTIONS[options])
    whole = pixels(data)
    assert {pixels(data[:-cut]) for cut in range(3, 10)} <= {None, whole}  # what is lost may be no row's
    assert {pixels(data[:-cut]) for cut in range(40, len(data) - 20, 61)} == {None}


def test_a_grey_jpeg_that_lacks_rows_is_refused_although_what_is_filled_in_has_its_colour() -> None:
    data = encoded(Image.new("RGB", (160, 160), (128, 128, 128)), "JPEG")
    assert pixels(data[:-2]) == pixels(data)
    assert pixels(data[: -len(data) // 4]) is None


def test_a_jpeg_that_lacks_only_detail_of_its_last_block_is_read() -> None:
    data = encoded(noise((320, 240)), "JPEG", quality=95)
    shown = decode(data[:-4]).pixels
    assert shown.crop((0, 0, 320, 224)).tobytes() == decode(data).pixels.crop((0, 0, 320, 224)).tobytes()
    assert shown.crop((0, 0, 304, 240)).tobytes() == decode(data).pixels.crop((0, 0, 304, 240)).tobytes()


def test_a_progressive_jpeg_that_lacks_its_last_scan_is_refused() -> None:
    data = encoded(noise(), "JPEG", progressive=True)
    assert pixels(data[: data.rindex(b"\xff\xda")]) is None


def test_zeros_behind_a_cut_jpeg_are_not_taken_for_rows() -> None:
    """Disks leave them behind a copy that was interrupted. Where no restart marker is awaited Pillow reads them."""
    data = encoded(noise(), "JPEG", restart_marker_blocks=3)
    assert pixels(data[:-2] + bytes(4_096)) == pixels(data)
    assert pixels(data[: -len(data) // 4] + bytes(4_096)) is None


def test_another_image_behind_a_jpeg_without_its_end_marker_is_not_taken_for_a_part_of_it() -> None:
    data = encoded(noise(), "JPEG", restart_marker_blocks=3)
    assert pixels(data[:-2] + encoded(disc(), "JPEG")[:-2]) == pixels(data)
    assert pixels(data[: -len(data) // 4] + encoded(disc(), "JPEG")[:-2]) is None


def test_the_codes_of_an_even_image_may_be_zeros() -> None:
    data = encoded(Image.new("RGB", (64, 64), (128, 128, 128)), "JPEG", optimize=True)
    assert pixels(data[:-2]) == pixels(data)


JPEG_SIDE = {
    "a profile without its numbers": (0xE2, b"ICC_PROFILE\0"),
    "a profile of which a part is missing": (0xE2, b"ICC_PROFILE\0\x01\x03" + b"x" * 100),
    "an empty JFIF": (0xE0, b"JFIF"),
    "a short Adobe mark": (0xEE, b"Adobe"),
    "Photoshop's resources, cut": (0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed"),
    "an index of several images, cut": (0xE2, b"MPF\0MM\0*\0\0\0\x08\0\x03\xb0\0\0\x07\0\0\0\x040100\xb0\x01\0\x04"),
    "an index of several images that is none": (0xE2, b"MPF\0" + b"x" * 40),
    "a long comment": (0xFE, b"x" * 65_000),
    "EXIF that is none": (0xE1, b"Exif\0\0" + b"x" * 40),
    "EXIF that ends early": (0xE1, exif()[:40]),
    "EXIF that ends in its header": (0xE1, b"Exif\0\0MM\0*\0"),
    "EXIF that points far behind its end": (0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xf0"),
}


@pytest.mark.parametrize("kind", JPEG_SIDE)
@pytest.mark.parametrize("end", ["whole", "without its end"])
def test_no_side_matter_of_a_jpeg_decides_whether_it_is_read(kind: str, end: str) -> None:
    """Case exif-that-ends-early and its like, together with a missing end marker as well."""
    plain = encoded(disc(), "JPEG")
    data = with_segment(plain, *JPEG_SIDE[kind])
    shown = decode(data if end == "whole" else data[:-2]).pixels
    assert sorted(shown.size) == [168, 224]  # the orientation that an early end leaves may still count
    assert shown.size != (224, 168) or shown.tobytes() == decode(plain).pixels.tobytes()


def test_adobes_mark_keeps_the_colours_of_a_repaired_jpeg() -> None:
    """It says that the components are CMYK, or RGB and no YCbCr: without it all colours would be others."""
    for image in (disc().convert("CMYK"), disc()):
        data = encoded(image, "JPEG", keep_rgb=image.mode == "RGB")
        assert pixels(with_segment(data[:-2], 0xE2, b"ICC_PROFILE\0")) == pixels(data)


PNG = encoded(disc(), "PNG")
LONG = bytes(1_500_000)
PNG_SIDE = {
    "long compressed text": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LONG)),
    "long compressed international text": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LONG)),
    "a long profile": chunk(b"iCCP", b"icc\0\0" + zlib.compress(LONG)),
    "much text": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 70,
    "text packed in an unknown way": chunk(b"zTXt", b"a\0\7xx"),
    "a profile packed in an unknown way": chunk(b"iCCP", b"a\0\7xx"),
    "an empty profile": chunk(b"iCCP", b""),
    "a wrong checksum of a text": chunk(b"tEXt", b"a\0b", checksum=1),
    "a wrong checksum of the time": chunk(b"tIME", bytes(7), checksum=1),
    "a wrong checksum of EXIF": chunk(b"eXIf", exif(1)[6:], checksum=1),
    "a short physical size": chunk(b"pHYs", b"\0"),
    "a short gamma": chunk(b"gAMA", b"\0"),
    "an odd chromaticity": chunk(b"cHRM", b"\0" * 5),
    "an empty colour space": chunk(b"sRGB", b""),
    "EXIF that is none": chunk(b"eXIf", b"x" * 30),
    "an empty animation": chunk(b"fcTL", b""),
    "an animation out of its order": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\0\0\0\5" + bytes(22)),
}


@pytest.mark.parametrize("kind", PNG_SIDE)
def test_no_side_matter_of_a_png_decides_whether_it_is_read(kind: str) -> None:
    """Case png-long-compressed-text and its like."""
    at_end = PNG[:-12] + PNG_SIDE[kind] + PNG[-12:]
    assert pixels(with_chunk(PNG, PNG_SIDE[kind])) == pixels(at_end) == pixels(PNG)


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps of both, of each pass of an interlaced PNG."""


def interlaced(width: int, height: int) -> bytes:
    """An interlaced grey PNG of that size, its bytes counting on from row to row."""
    rows, level = b"", 0
    for left, top, across, down in PASSES:
        columns = len(range(left, width, across))
        for _ in range(top, height, down) if columns else ():
            rows += b"\0" + bytes((level + column) % 256 for column in range(columns))
            level += 37
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_forms() -> dict[str, bytes]:
    """PNGs of every kind of pixel that Pillow writes, and interlaced ones."""
    clear = NOISE.convert("RGBA")
    clear.putalpha(NOISE.convert("L"))
    deep = NOISE.convert("I").point(lambda value: value * 256 + 0).convert("I;16")
    forms = {mode: NOISE.convert(mode) for mode in ("1", "L", "LA", "RGB")}
    forms |= {"P": NOISE.quantize(200), "P4": NOISE.quantize(16), "RGBA": clear, "I;16": deep}
    made = {name: encoded(form, "PNG") for name, form in forms.items()}
    made["clear palette"] = encoded(NOISE.quantize(4), "PNG", transparency=bytes((0, 100, 255, 255)))
    made["clear colour"] = encoded(NOISE, "PNG", transparency=NOISE.getpixel((3, 3)))
    return made | {"interlaced": interlaced(5, 7), "interlaced, tiny": interlaced(1, 1)}


NOISE = noise()
PNG_FORMS = png_forms()


@pytest.mark.parametrize("name", PNG_FORMS)
def test_a_png_whose_end_is_damaged_shows_the_same_pixels(name: str) -> None:
    """Without IEND, the checksum of its last chunk and that of its stream, all the rows are there."""
    data = PNG_FORMS[name]
    whole = pixels(data)
    assert whole is not None
    assert [pixels(data[:-cut]) == whole for cut in (1, 4, 12, 14, 16, 18, 20)] == [True] * 7


@pytest.mark.parametrize("name", ["RGB", "P", "I;16", "1"])
def test_a_png_that_lacks_rows_is_refused_whatever_else_it_lacks(name: str) -> None:
    data = PNG_FORMS[name]
    for cut in range(60, len(data) - 60, 97):
        assert pixels(data[:-cut]) is None
        assert pixels(with_chunk(data[:-cut], chunk(b"tEXt", b"a\0b", checksum=1))) is None


def png_of(stream: bytes, *, checksum: int | None = None) -> bytes:
    """The PNG of `NOISE` with that stream of its rows."""
    head = struct.pack(">IIBBBBB", *NOISE.size, 8, 2, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", stream, checksum=checksum) + chunk(b"IEND", b"")


def test_rows_with_a_wrong_checksum_are_shown_unless_that_of_their_chunk_is_wrong_as_well() -> None:
    """A writer's mistake is right in its chunk; where both are wrong, the rows are damaged, as viewers judge too."""
    row_bytes, data = NOISE.width * 3, NOISE.tobytes()
    rows = b"".join(b"\0" + data[start : start + row_bytes] for start in range(0, len(data), row_bytes))
    stream = zlib.compress(rows)
    wrong = stream[:-4] + b"\1\2\3\4"
    whole = pixels(PNG_FORMS["RGB"])
    assert pixels(png_of(wrong)) == pixels(png_of(zlib.compress(rows + b"more"))) == whole
    assert pixels(png_of(stream, checksum=1)) == whole  # as it was: the stream's own checksum is right
    assert pixels(png_of(wrong, checksum=1)) is None


def test_a_png_whose_header_or_palette_is_damaged_is_refused() -> None:
    data = PNG_FORMS["P"]
    assert pixels(data[:20] + b"\1" + data[21:]) is None
    at = data.index(b"PLTE") + 10
    assert pixels(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]) is None


def cut_webp() -> bytes:
    """A WebP whose EXIF turns it, and whose last chunk ends early."""
    data = encoded(disc(), "WEBP", exif=exif())
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + b"XMP "


RAW_PROFILE = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n50\n" + exif().hex().encode())
XMP = b"http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation='6' tiff:Orientation=\"6\"/>"
DAMAGE = PNG_SIDE["long compressed text"]
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
def test_an_intact_orientation_turns_a_repaired_image(kind: str) -> None:
    assert decode(ORIENTED[kind]).pixels.size == (168, 224)


def test_damaged_tags_beside_the_orientation_do_not_undo_it() -> None:
    """Pillow's own turning writes the EXIF again and fails on a tag of a type that it cannot write."""
    entries = struct.pack(">HHII", 0x0112, 3, 1, 6 << 16) + struct.pack(">HHII", 0x8298, 12, 1, 8)
    block = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + b"\0\0\0\0"
    assert decode(with_segment(encoded(disc(), "JPEG"), 0xE1, block)).pixels.size == (168, 224)


@pytest.mark.parametrize("lossless", [True, False])
def test_no_side_matter_of_a_webp_decides_whether_it_is_read(lossless: bool) -> None:
    plain = encoded(disc(), "WEBP", lossless=lossless)
    full = encoded(disc(), "WEBP", lossless=lossless, exif=exif(1), icc_profile=b"x" * 99, xmp=b"<x/>")
    whole = pixels(plain)
    assert pixels(full) == whole
    damaged = [full[:-1], full[:-20], full[:4] + b"\xff\xff\xff\0" + full[8:], full + b"EXIF\xff\xff\0\0x"]
    assert [pixels(data) == whole for data in damaged] == [True] * 4
    assert pixels(full[: full.index(b"VP8" + (b"L" if lossless else b" ")) + 40]) is None


def test_of_an_animated_webp_that_was_cut_off_the_first_frame_is_read() -> None:
    data = encoded(disc(), "WEBP", save_all=True, append_images=[noise((224, 168))], lossless=True)
    assert pixels(data[:-50]) == pixels(data)
    assert pixels(data[:200]) is None


def test_a_gif_without_its_end_is_read_and_one_without_rows_is_not() -> None:
    data = encoded(NOISE.quantize(64), "GIF")
    assert pixels(data[:-1]) == pixels(data[:-2]) == pixels(data)
    assert pixels(data[:-200]) is None
    moving = encoded(disc().quantize(8), "GIF", save_all=True, append_images=[disc((224, 168)).quantize(4)])
    assert pixels(moving[:-1]) == pixels(moving)


def test_a_gif_whose_last_block_is_short_by_what_no_row_needs_is_read() -> None:
    """The code of the end may have a byte of its own, and Pillow waits for the whole block."""
    data = encoded(NOISE.quantize(64), "GIF")
    at = data.rindex(b"\0;")
    last = at - 1 - next(size for size in range(1, 256) if is_block(data, at, size))
    longer = data[:last] + bytes((data[last] + 9,)) + data[last + 1 : at]
    assert pixels(longer) == pixels(data)


def is_block(data: bytes, end: int, size: int) -> bool:
    """Whether the last block of the coded data before `end` has that size, all others being full."""
    start = end - 1 - size
    return data[start] == size and data[start - 256] == 255


def big_endian_tiff() -> bytes:
    """A grey TIFF of 2 x 2 pixels in Motorola's order, with a description."""
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
"""Each file, the form of an offset in it, where that of its directory lies, and the sizes of its count and entries."""


@pytest.mark.parametrize("kind", TIFFS)
def test_no_side_matter_of_a_tiff_decides_whether_it_is_read(kind: str) -> None:
    data, offset, offset_at, count_bytes, entry_bytes = TIFFS[kind]
    (start,) = struct.unpack_from(offset, data, offset_at)
    entries = range(start + count_bytes, len(data) - entry_bytes, entry_bytes)
    side = [at for at in entries if data[at : at + 4] in SIDE_TAGS]
    assert side
    for at in side:
        for count, place in ((0xFFFFFF, 0x7FFFFFF0), (50, len(data) - 3)):
            wrong = struct.pack(offset, count) + struct.pack(offset, place)
            assert pixels(data[: at + 4] + wrong + data[at + entry_bytes :]) == pixels(data)


SIDE_TAGS = {struct.pack(order + "HH", tag, kind) for order in "<>" for tag, kind in ((270, 2), (34675, 7))}
"""How the entries of a description and a profile begin."""


def test_a_tiff_that_lacks_rows_or_a_tag_of_its_pixels_is_refused() -> None:
    data = encoded(noise(), "TIFF", description="x" * 99)
    assert {pixels(data[:-cut]) for cut in (1, 7, 60, 200, 2_000, len(data) - 100)} == {None}
    (start,) = struct.unpack_from("<I", data, 4)
    assert pixels(data[: start + 4] + b"\x63\0" + data[start + 6 :]) is None


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_damaged_exif_of_an_avif_does_not_decide_whether_it_is_read() -> None:
    data = encoded(disc(), "AVIF", exif=exif())
    at = data.index(b"MM\0*")
    assert pixels(data[:at] + b"none" + data[at + 4 :]) == pixels(data)
    assert decode(data).pixels.size == (168, 224)
    assert pixels(data[:-100]) is None


def broken_exif(missing: int) -> bytes:
    """An orientation, whole in itself, behind a description whose last bytes are missing."""
    entries = struct.pack("<HHIIHHIHHI", 0x10E, 2, 50, 38, 0x112, 3, 1, 6, 0, 0)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + b"x" * (50 - missing)


@pytest.mark.parametrize("missing", [0, 1, 10, 40, 50])
@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
def test_an_orientation_counts_though_an_earlier_tag_of_the_exif_is_cut_off(form: str, missing: int) -> None:
    """Pillow reads no further than the first tag without its value, so cameras' images came out sideways."""
    image = Image.new("RGB", (32, 24), "navy")
    data = encoded(image, form, exif=broken_exif(missing))
    assert decode(data).pixels.size == (24, 32)


@pytest.mark.parametrize(("mode", "payload"), [("RGB", b""), ("RGB", b"\0\0\0"), ("L", b"\0"), ("RGBA", b"\0\0")])
def test_a_transparency_of_no_valid_length_decides_nothing(mode: str, payload: bytes) -> None:
    image = Image.new(mode, (9, 9), "white")
    whole = encoded(image, "PNG")
    start = whole.index(b"IDAT") - 4
    assert decode(whole[:start] + chunk(b"tRNS", payload) + whole[start:]).pixels.size == (9, 9)


@pytest.mark.parametrize("seed", range(8))
def test_an_extension_without_content_does_not_decide_a_gifs_size(seed: int) -> None:
    """Pillow took pixels for the image's size, which was then told as too large."""
    dice = random.Random(seed)
    image = Image.frombytes("P", (320, 240), bytes(dice.randrange(256) for _ in range(320 * 240)))
    image.putpalette(bytes(range(256)) * 3)
    whole = encoded(image, "GIF")
    colours = 13 + 3 * 2 ** ((whole[10] & 7) + 1)
    damaged = whole[:colours] + b"\x21\xff\x0bNETSCAPE2.0\0" + whole[colours:]
    assert decode(damaged).pixels.tobytes() == decode(whole).pixels.tobytes()
