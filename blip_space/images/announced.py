"""Rejects an uploaded file by what its header announces, before any pixel is decoded.

The files of a folder or a program are read without these limits: they are their owner's. Must not decode.
"""

from __future__ import annotations

from blip_space.errors import ImageError
from blip_space.images import jpeg
from blip_space.images.estimates import estimate_decoding_bytes, read_size

MAX_SIDE = 32_768
"""The longest side in pixels. Decoders work row by row, and very long or very many rows cost more than their pixels."""

MAX_IMAGE_BYTES = 640_000_000
"""The most memory that decoding one image may take, estimated from its header: enough for an iPhone's 49 megapixels."""

MAX_SCANNED_PIXELS = 2_000_000_000
"""The limit for pixels × scans of a JPEG that is decoded in several scans, each of which passes over the entire image
however little it stores: 40 scans for 50 megapixels. Programs save about ten."""


def check_announced(data: bytes) -> None:
    """Raise `ImageError` if the file announces a longer side, more memory or more work than a server spends on it."""
    size = read_size(data)
    if size is None:
        return  # damaged or unsupported, as the decoder says in more detail
    if max(size) > MAX_SIDE:
        raise ImageError(
            f"The image has {size[0]:,} × {size[1]:,} pixels, and a side may have {MAX_SIDE:,}. Crop it, or send a "
            "smaller copy.",
            code="too_large",
        )
    if (needed := estimate_decoding_bytes(data)) > MAX_IMAGE_BYTES:
        raise ImageError(
            f"The image would take {needed / 1e6:,.0f} MB of memory to decode, and the limit is "
            f"{MAX_IMAGE_BYTES // 1_000_000} MB. Send a smaller copy, or save it as a JPEG that is not progressive.",
            code="too_large",
        )
    if data.startswith(jpeg.START):
        _check_scans(data)


def _check_scans(data: bytes) -> None:
    header = jpeg.read_header(data)
    if header is None or header.is_streamed:
        return
    scans = sum(segment.marker == jpeg.SOS for segment in jpeg.read_segments(data, with_scans=True))
    if scans * header.pixels > MAX_SCANNED_PIXELS:
        raise ImageError(
            f"The image is a JPEG in {scans:,} scans, more than are decoded at its size. Save it as a JPEG that is "
            "not progressive, or as a PNG.",
            code="too_large",
        )
