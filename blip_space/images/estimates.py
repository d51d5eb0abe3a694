"""Estimates the memory that decoding a file takes, from its header alone.

Depends on formats and their headers; must not decode, or open anything with Pillow.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable

from blip_space.images import formats, jpeg, png, tiff
from blip_space.images.decoder import MAX_JPEG_PIXELS, MAX_PIXELS

Size = tuple[int, int]
"""Width and height, 0 if the header does not have them."""

MAX_HEADER_BYTES = 1 << 16
"""How many bytes of an AVIF or a HEIC are searched for its size."""

BYTES_PER_PIXEL = {"JPEG": 8, "PNG": 8, "GIF": 8, "BMP": 8, "TIFF": 9, "AVIF": 13, "WEBP": 17}
"""The peak of decoding and resizing, measured with Pillow 12.3 and images of 16 and 64 megapixels: 4 bytes for RGB,
8 for a rotated image or another mode, 8.5 for a TIFF of one strip; 12.4 for AVIF and HEIC, whose decoders hold the
image in their own format too, and 17 for WebP, whose decoder holds two canvases."""

TRANSPARENT_BYTES_PER_PIXEL = {"AVIF": 18, "WEBP": 21}
"""The same with transparency, which such an image keeps while it is rotated: 17.7 and 20.6."""

MAX_ESTIMATE = max(TRANSPARENT_BYTES_PER_PIXEL.values()) * MAX_PIXELS
COEFFICIENT_BYTES = 2
"""Bytes per stored sample of a progressive JPEG, whose coefficients libjpeg holds at full size."""

ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
SPATIAL_EXTENT = re.compile(rb"ispe.{4}(.{4})(.{4})", re.DOTALL)
"""The width and the height of an item in an AVIF or HEIC. Source: ISO 23008-12, 6.5.3."""


def read_size(data: bytes) -> tuple[int, int] | None:
    """Width and height according to the header, of an AVIF or HEIC those of its largest item; None without a header."""
    try:
        if data.startswith(jpeg.START):
            header = jpeg.read_header(data)
            return (header.width, header.height) if header else None
        readers = (read for _, is_format, read in FORMATS if is_format(data[:512]))
        width, height = next((read(data) for read in readers), (0, 0))
    except (struct.error, IndexError):
        return None
    return (width, height) if width and height else None


def estimate_decoding_bytes(data: bytes) -> int:
    """An upper estimate of the memory in bytes that decoding takes in addition to `data`.

    An image beyond the limits, which is rejected before it is decoded, counts as one at the limit. An image without a
    readable size counts as the most expensive one.
    """
    try:
        return _estimate(data) or MAX_ESTIMATE
    except (struct.error, IndexError):
        return MAX_ESTIMATE


def _estimate(data: bytes) -> int:
    """The estimate, or 0 if the header does not contain a size."""
    if data.startswith(jpeg.START):
        header = jpeg.read_header(data)
        return _estimate_jpeg(header) if header else 0
    for name, is_format, read in FORMATS:
        if is_format(data[:512]) and (pixels := math.prod(read(data))):
            table = TRANSPARENT_BYTES_PER_PIXEL if _is_transparent(name, data) else BYTES_PER_PIXEL
            return table[name] * min(pixels, MAX_PIXELS)
    return 0


def _estimate_jpeg(header: jpeg.Header) -> int:
    pixels = min(header.pixels, MAX_JPEG_PIXELS)
    reduced = pixels // header.reduction(MAX_PIXELS) ** 2
    coefficients = 0 if header.is_streamed else int(COEFFICIENT_BYTES * header.samples_per_pixel * pixels)
    return BYTES_PER_PIXEL["JPEG"] * reduced + coefficients


def _size_reader(layout: str, offset: int) -> Callable[[bytes], Size]:
    """A function that reads width and height at `offset`, in the `struct` format `layout`."""

    def read(data: bytes) -> Size:
        width, height = struct.unpack_from(layout, data, offset)
        return abs(width), abs(height)

    return read


def _bmp_size(data: bytes) -> Size:
    return _size_reader("<HH" if data[14] == 12 else "<ii", 18)(data)


def _webp_size(data: bytes) -> Size:
    """Width and height according to the first chunk. Source: RFC 9649, 2.5 to 2.7."""

    def integer(start: int, stop: int) -> int:
        return int.from_bytes(data[start:stop], "little")

    if data[12:16] == b"VP8X":
        return 1 + integer(24, 27), 1 + integer(27, 30)
    if data[12:16] == b"VP8 ":
        return integer(26, 28) & 0x3FFF, integer(28, 30) & 0x3FFF
    if data[12:16] == b"VP8L":
        return 1 + (integer(21, 25) & 0x3FFF), 1 + (integer(21, 25) >> 14 & 0x3FFF)
    return 0, 0


def _is_transparent(form: str, data: bytes) -> bool:
    """Whether the header of a WebP, an AVIF or a HEIC announces alpha; a WebP's, only if it may have an orientation.
    Sources: RFC 9649, 2.7; ISO 23008-12, 6.5.8."""
    if form == "WEBP":
        return data[12:16] == b"VP8X" and bool(data[20] & 0x10)
    return form == "AVIF" and ALPHA in data[:MAX_HEADER_BYTES]


def _heif_size(data: bytes) -> Size:
    """The size of the largest item; the items are the image, its tiles and its thumbnails."""
    extents = SPATIAL_EXTENT.findall(data[:MAX_HEADER_BYTES])
    sizes = [(int.from_bytes(width, "big"), int.from_bytes(height, "big")) for width, height in extents]
    return max(sizes, key=math.prod, default=(0, 0))


FORMATS: tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], Size]], ...] = (
    ("PNG", lambda head: head.startswith(png.SIGNATURE), _size_reader(">II", 16)),
    ("GIF", lambda head: head.startswith(b"GIF8"), _size_reader("<HH", 6)),
    ("BMP", formats.is_bmp, _bmp_size),
    ("WEBP", formats.is_webp, _webp_size),
    ("TIFF", lambda head: head.startswith(formats.TIFF_STARTS), tiff.read_size),
    ("AVIF", lambda head: formats.is_avif(head) or formats.is_heif(head), _heif_size),
)
