"""How much memory decoding will take, by the header of a file alone.

Depends on formats and their headers; decodes nothing and opens nothing with Pillow.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from blip_space.images import formats, jpeg, png, tiff
from blip_space.images.decoder import MAX_JPEG_PIXELS, MAX_PIXELS

MAX_HEADER_BYTES = 1 << 16
"""The boxes with the size of an AVIF or a HEIC are looked for in so many bytes."""

BYTES_PER_PIXEL = {"JPEG": 8, "PNG": 8, "GIF": 8, "BMP": 8, "TIFF": 9, "AVIF": 13, "WEBP": 17}
"""At the peak of decoding and resizing. Measured with Pillow 12.3 and images of 16 and 64 megapixels: 4 bytes for RGB
as it is decoded, 8 where it is turned or of another mode, 8.5 where a TIFF is one strip; for AVIF and HEIC, whose
decoders hold the image in their own form, 12.4, and for WebP, whose decoder holds two canvases, 17."""

COEFFICIENT_BYTES = 2
"""Of each component of each pixel, which libjpeg holds of a progressive JPEG at full size."""

WEBP_SIZES: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    b"VP8X": lambda data: (
        1 + int.from_bytes(data[24:27], "little"),
        1 + int.from_bytes(data[27:30], "little"),
    ),
    b"VP8 ": lambda data: (
        int.from_bytes(data[26:28], "little") & 0x3FFF,
        int.from_bytes(data[28:30], "little") & 0x3FFF,
    ),
    b"VP8L": lambda data: (
        1 + (int.from_bytes(data[21:25], "little") & 0x3FFF),
        1 + (int.from_bytes(data[21:25], "little") >> 14 & 0x3FFF),
    ),
}
"""Width and height by the first chunk. Source: RFC 9649, 2.5 to 2.7."""

SPATIAL_EXTENT = re.compile(rb"ispe.{4}(.{4})(.{4})", re.DOTALL)
"""Width and height of an item of an AVIF or HEIC. Source: ISO 23008-12, 6.5.3."""


def decoding_bytes(data: bytes) -> int:
    """An upper estimate of the memory that decoding an image's bytes takes, beside these.

    What is larger than the limits is refused before it takes any, and what says no size is taken for as large as they
    allow.
    """
    try:
        return next(_estimates(data), _of_unknown())
    except (struct.error, IndexError):
        return _of_unknown()


def _estimates(data: bytes) -> Iterator[int]:
    """One number, or none where the header does not say how large the image is."""
    if data.startswith(jpeg.START):
        if header := jpeg.read_header(data):
            yield _of_jpeg(header)
        return
    for form, is_format, size in FORMATS:
        if is_format(data[:512]) and (pixels := size(data)):
            yield BYTES_PER_PIXEL[form] * min(pixels, MAX_PIXELS)
            return


def _of_unknown() -> int:
    return max(BYTES_PER_PIXEL.values()) * MAX_PIXELS


def _of_jpeg(header: jpeg.Header) -> int:
    pixels = min(header.pixels, MAX_JPEG_PIXELS)
    reduced = pixels // header.reduction(MAX_PIXELS) ** 2
    kept = 0 if header.is_streamed else COEFFICIENT_BYTES * len(header.sampling) * pixels
    return BYTES_PER_PIXEL["JPEG"] * reduced + kept


def _of_png(data: bytes) -> int:
    width, height = struct.unpack_from(">II", data, 16)
    return int(width * height)


def _of_gif(data: bytes) -> int:
    width, height = struct.unpack_from("<HH", data, 6)
    return int(width * height)


def _of_bmp(data: bytes) -> int:
    form = "<HH" if data[14] == 12 else "<ii"
    width, height = struct.unpack_from(form, data, 18)
    return int(abs(width * height))


def _of_webp(data: bytes) -> int:
    size = WEBP_SIZES.get(data[12:16])
    width, height = size(data) if size else (0, 0)
    return width * height


def _of_boxes(data: bytes) -> int:
    """The largest of the items, which are the image, its tiles and its thumbnails."""
    sizes = SPATIAL_EXTENT.findall(data[:MAX_HEADER_BYTES])
    return max((int.from_bytes(width, "big") * int.from_bytes(height, "big") for width, height in sizes), default=0)


FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], int]], ...] = (
    ("PNG", lambda head: head.startswith(png.SIGNATURE), _of_png),
    ("GIF", lambda head: head.startswith(b"GIF8"), _of_gif),
    ("BMP", formats.is_bmp, _of_bmp),
    ("WEBP", formats.is_webp, _of_webp),
    ("TIFF", lambda head: head.startswith(formats.TIFF_STARTS), tiff.pixels),
    ("AVIF", lambda head: formats.is_avif(head) or formats.is_heif(head), _of_boxes),
)
