"""Reads a JPEG's segments for its size, its orientation and how far decoding can reduce it.

Follows ITU-T T.81, annex B, and what libjpeg accepts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, JpegImagePlugin

from blip_space.images import orientations

START = b"\xff\xd8"
SOS, EOI = 0xDA, 0xD9
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
STREAMED = frozenset({0xC0, 0xC1})
"""Baseline and extended frames, of which libjpeg holds only some rows at a time if one scan has all components."""

STARTS_ANOTHER_IMAGE = FRAMES | {0xD8}
"""Markers that start another image if they follow a scan."""

MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""A marker that has a length, or ends the file; found without a step of Python for each byte of a hostile file."""

MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
MAX_SEGMENTS = 10_000
"""How many segments are read; a photograph has some dozens, and a progressive one some more."""

END_OF_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")

REDUCTIONS = (8, 4, 2)
MIN_SIDE = 512
"""A reduced image keeps at least this many pixels on its shorter side if possible. No model needs as many."""


@dataclass(frozen=True)
class Segment:
    """One segment: its marker, its payload without the length and, if it starts a scan, the coded data after it."""

    marker: int
    payload: bytes
    scan: bytes = b""

    def packed(self) -> bytes:
        """The bytes of the segment."""
        return bytes((0xFF, self.marker)) + (len(self.payload) + 2).to_bytes(2, "big") + self.payload + self.scan


@dataclass(frozen=True)
class Header:
    """Size in pixels, the frame's marker, each component's sampling, and the first scan's number of components."""

    width: int
    height: int
    frame: int
    sampling: tuple[tuple[int, int], ...]
    scan_components: int

    @property
    def pixels(self) -> int:
        """The number of pixels at full size."""
        return self.width * self.height

    @property
    def samples_per_pixel(self) -> float:
        """How many samples are stored per pixel: 3 for colour, 1.5 with 4:2:0 subsampling."""
        largest = max(across for across, _ in self.sampling) * max(down for _, down in self.sampling)
        return sum(across * down for across, down in self.sampling) / largest

    @property
    def is_streamed(self) -> bool:
        """Whether the decoder holds only some rows at a time instead of the coefficients of the entire image."""
        return self.frame in STREAMED and self.scan_components == len(self.sampling)

    def reduction(self, max_pixels: int) -> int:
        """By how much to divide each side: 1 up to `max_pixels` pixels, else 2, 4 or 8; see `MIN_SIDE`."""
        if self.pixels <= max_pixels:
            return 1
        return next(
            divisor for divisor in REDUCTIONS if divisor == 2 or min(self.width, self.height) // divisor >= MIN_SIDE
        )


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG; None if the frame or the first scan is missing or invalid."""
    frame = None
    for segment in read_segments(data):
        if segment.marker in FRAMES and frame is None and len(segment.payload) >= 9:
            frame = segment
        if segment.marker == SOS:
            return _header(frame, segment) if frame else None
    return None


def _header(frame: Segment, scan: Segment) -> Header | None:
    payload = frame.payload
    sampling = tuple((factors >> 4, factors & 15) for factors in payload[7::3][: payload[5]])
    if not sampling or not all(across and down for across, down in sampling) or not scan.payload:
        return None
    height, width = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
    return Header(width, height, frame.marker, sampling, scan.payload[0])


def open_reduced(data: bytes, reduction: int, mode: str | None = None) -> Image.Image:
    """An image of a JPEG file, not decoded yet, with its sides divided by `reduction` (1, 2, 4 or 8) and rounded up.

    With the `mode` "L" only the brightness is decoded. Does not use `PIL.Image.open`, which rejects more than 179
    million pixels before the reduction can be set.
    """
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if reduction > 1 or mode:
        image.draft(mode, (max(image.width // reduction, 1), max(image.height // reduction, 1)))
    return image


def orientation(data: bytes) -> int:
    """The orientation (EXIF's number, 1 for upright) in the segments before the first scan."""
    exif, xmp = b"", b""
    for segment in read_segments(data):
        if segment.marker == 0xE1 and segment.payload.startswith(b"Exif\0\0"):
            exif += segment.payload[6:]
        elif segment.marker == 0xE1 and segment.payload.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = segment.payload
    return orientations.from_metadata(exif, xmp)


def read_segments(data: bytes, *, with_scans: bool = False) -> Iterator[Segment]:
    """Yields the segments up to the end marker, the end of the file, the first invalid byte or `MAX_SEGMENTS`.

    Unless `with_scans`, the first start of scan is the last segment, and no coded data are read.
    """
    start, scans = 2 if data.startswith(START) else len(data), 0
    for _ in range(MAX_SEGMENTS):
        found = (MARKER_AFTER_SCAN if scans else MARKER).search(data, start)
        if found is None:
            return
        start = found.end() - 2
        marker = data[start + 1]
        if marker == EOI or (scans and marker in STARTS_ANOTHER_IMAGE):
            return
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        stop = start + 2 + length
        if length < 2 or stop > len(data):
            return
        payload, start = data[start + 4 : stop], stop
        if marker != SOS:
            yield Segment(marker, payload)
        elif with_scans:
            scans += 1
            end = END_OF_SCAN.search(data, stop)
            start = end.start() if end else len(data)
            yield Segment(marker, payload, data[stop:start])
        else:
            yield Segment(marker, payload)
            return
