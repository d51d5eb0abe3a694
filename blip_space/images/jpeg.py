"""A JPEG by its markers: its size, how far it can be reduced while it is decoded, and a copy without what is damaged.

The copy holds what decides the pixels (tables, frame, scans, and the JFIF and Adobe segments that choose the colour
space) and an end marker. Whether a file without its end marker holds every row is found by decoding it with different
continuations. Follows ITU-T T.81, annex B, and what libjpeg accepts.
"""

from __future__ import annotations

import hashlib
import io
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from PIL import Image, JpegImagePlugin

from blip_space.images import orientations

START, END = b"\xff\xd8", b"\xff\xd9"
SOS, EOI, DRI = 0xDA, 0xD9, 0xDD
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
STREAMED = frozenset({0xC0, 0xC1})
"""The frames (baseline and extended) of which libjpeg holds some rows at a time, where one scan has all components."""

PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
DECIDES_PIXELS = FRAMES | {0xC4, 0xCC, 0xDB, DRI, SOS}
END_OF_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
JFIF_BYTES, ADOBE_BYTES = 14, 12
"""Shorter segments of these names do not count for libjpeg, and Pillow fails on some of them."""

NOISE_SEEDS = (1, 2, 3)
NOISE_BYTES = 512
BAND_ROWS = 256
MAX_LAST_BLOCK = 64
"""The part of the image that its last block may be where it may lack detail: one in so many."""

COEFFICIENT_BYTES = 2
REDUCTIONS = (8, 4, 2)
MIN_SIDE = 512
"""A reduced image keeps this many pixels on its shorter side where it can, more than any model takes."""


@dataclass(frozen=True)
class Segment:
    """A marker, what follows it (without its length) and, of a start of scan, its coded data as far as they go."""

    marker: int
    payload: bytes
    scan: bytes = b""

    def packed(self) -> bytes:
        """The segment as it is written."""
        return bytes((0xFF, self.marker)) + (len(self.payload) + 2).to_bytes(2, "big") + self.payload + self.scan


@dataclass(frozen=True)
class Header:
    """Size in pixels, the frame's marker, the sampling of each component, and how many the first scan has."""

    width: int
    height: int
    frame: int
    sampling: tuple[tuple[int, int], ...]
    scan_components: int

    @property
    def pixels(self) -> int:
        """How many pixels the image has at full size."""
        return self.width * self.height

    @property
    def is_streamed(self) -> bool:
        """Whether the decoder holds some rows at a time, not the coefficients of the whole image."""
        return self.frame in STREAMED and self.scan_components == len(self.sampling)

    @property
    def coefficient_bytes_per_pixel(self) -> float:
        """What libjpeg holds of an image that is not streamed, however far it is reduced."""
        widest = max(across for across, _ in self.sampling) * max(down for _, down in self.sampling)
        return COEFFICIENT_BYTES * sum(across * down for across, down in self.sampling) / widest

    def reduction(self, max_pixels: int) -> int:
        """By what each side is divided so that at most `max_pixels` pixels remain: 1, 2, 4 or 8."""
        if self.pixels <= max_pixels:
            return 1
        return next(by for by in REDUCTIONS if by == 2 or min(self.width, self.height) // by >= MIN_SIDE)


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG; None for whatever has none."""
    frame = None
    for segment in _segments(data):
        if segment.marker in FRAMES and frame is None and len(segment.payload) >= 9:
            frame = segment
        if segment.marker == SOS:
            return _header(frame, segment) if frame else None
    return None


def _header(frame: Segment, scan: Segment) -> Header | None:
    payload = frame.payload
    sampling = tuple((factors >> 4, factors & 15) for factors in payload[7::3][: payload[5]])
    if not all(across and down for across, down in sampling) or not scan.payload:
        return None
    height, width = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
    return Header(width, height, frame.marker, sampling, scan.payload[0])


def open_reduced(data: bytes, reduction: int, mode: str | None = None) -> Image.Image:
    """A lazy image of a JPEG's bytes, its sides divided by `reduction` (1, 2, 4 or 8) and rounded up.

    A `mode` of "L" decodes the brightness of a coloured image alone.

    It is opened by its class: `PIL.Image.open` refuses more than 179 million pixels before the reduction is asked for.
    """
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if reduction > 1 or mode:
        image.draft(mode, (max(image.width // reduction, 1), max(image.height // reduction, 1)))
    return image


def rebuild(data: bytes, *, reduction: int) -> bytes | None:
    """The JPEG of the same pixels without anything else, or None where it does not hold every row.

    Rows are compared as they are decoded at `reduction`.
    """
    segments = [segment for segment in _segments(data, with_scans=True) if _decides(segment)]
    if not segments or segments[-1].marker != SOS or not _covers_image(segments):
        return None
    head = START + b"".join(segment.packed() for segment in segments[:-1]) + Segment(SOS, segments[-1].payload).packed()
    scan = segments[-1].scan.rstrip(b"\xff")  # half a marker
    check = partial(_is_complete, head, reduction=reduction, has_restarts=_has_restarts(segments))
    stripped = _without_padding(scan)
    if check(stripped) or (_may_lack_detail(head) and check(stripped, mode="L", reduction=REDUCTIONS[0])):
        return head + stripped + END
    if len(stripped) < len(scan) and check(scan) and not check(scan[:-1]):
        return head + scan + END  # the codes of an even area are zeros, and none of these is too many
    return None


def orientation(data: bytes) -> int:
    """How the image is turned (EXIF's number, 1 for upright), by the segments before the first scan."""
    exif, xmp = b"", b""
    for segment in _segments(data):
        if segment.marker == 0xE1 and segment.payload.startswith(b"Exif\0\0"):
            exif += segment.payload[6:]
        elif segment.marker == 0xE1 and segment.payload.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = segment.payload
    found = orientations.of_exif(exif)
    return found if found != 1 else orientations.of_xmp(xmp)


def _segments(data: bytes, *, with_scans: bool = False) -> Iterator[Segment]:
    """The segments up to the end marker, or to where the file ends or makes no sense.

    Without scans the first start of scan is the last segment, and the coded data are not looked at.
    """
    start = 2 if data.startswith(START) else len(data)
    while 0 <= (start := data.find(b"\xff", start)) < len(data) - 1:
        marker = data[start + 1]
        if marker == EOI:
            return
        if marker in (0x00, 0xFF) or marker in WITHOUT_LENGTH:
            start += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        stop = start + 2 + length
        if length < 2 or stop > len(data):
            return
        payload, start = data[start + 4 : stop], stop
        if marker != SOS:
            yield Segment(marker, payload)
        elif with_scans:
            end = END_OF_SCAN.search(data, stop)
            start = end.start() if end else len(data)
            yield Segment(marker, payload, data[stop:start])
        else:
            yield Segment(marker, payload)
            return


def _decides(segment: Segment) -> bool:
    """Whether a segment decides pixels; a damaged JFIF or Adobe segment does not."""
    if segment.marker == 0xE0:
        return segment.payload.startswith(b"JFIF\0") and len(segment.payload) >= JFIF_BYTES
    if segment.marker == 0xEE:
        return segment.payload.startswith(b"Adobe") and len(segment.payload) >= ADOBE_BYTES
    return segment.marker in DECIDES_PIXELS


def _covers_image(segments: list[Segment]) -> bool:
    """Whether the scans, as their headers say, bring every component, and a progressive one to its full precision."""
    frame = next((segment for segment in segments if segment.marker in FRAMES), None)
    if frame is None or len(frame.payload) < 9:
        return False
    missing = {(component, position) for component in frame.payload[6::3][: frame.payload[5]] for position in range(64)}
    for segment in segments:
        payload = segment.payload
        if segment.marker != SOS or not payload or len(payload) < 4 + 2 * payload[0]:
            continue
        first, last, precision = payload[1 + 2 * payload[0] : 4 + 2 * payload[0]]
        if frame.marker not in PROGRESSIVE:
            first, last, precision = 0, 63, 0
        if precision & 15 == 0:
            components = payload[1 : 1 + 2 * payload[0] : 2]
            missing -= {(component, position) for component in components for position in range(first, last + 1)}
    return not missing


def _without_padding(coded: bytes) -> bytes:
    """Coded data without the zeros or ones that a disk leaves behind the end of a file that was not written whole."""
    stripped = coded.rstrip(b"\0\xff")
    while coded[len(stripped) : len(stripped) + 2] == b"\xff\0":  # a coded byte of ones
        stripped += b"\xff\0"
    return stripped


def _has_restarts(segments: list[Segment]) -> bool:
    return any(segment.marker == DRI and any(segment.payload) for segment in segments)


def _may_lack_detail(head: bytes) -> bool:
    """Whether it is enough that the brightness of every block has begun: that of the last one is a small part.

    Only where the blocks of all components come side by side, so no block but the last ones can lack anything. Viewers
    show such an image without a visible fault.
    """
    header = read_header(head)
    if header is None or not header.is_streamed:
        return False
    across, down = (8 * max(factors) for factors in zip(*header.sampling, strict=True))
    return bool(across * down * MAX_LAST_BLOCK <= header.pixels)


def _is_complete(head: bytes, coded: bytes, *, reduction: int, has_restarts: bool, mode: str | None = None) -> bool:
    """Whether the coded data of the last scan hold all that is visible at a reduction (in grey, where `mode` is "L").

    libjpeg fills what is missing, grey or with what was last, and reports nothing that Pillow shows. So the data are
    continued in different ways: where nothing is missing, no continuation is read and no pixel changes with it.
    """
    shown = _fingerprint(head + coded + END, reduction, mode)
    if shown is None:
        return False
    found = [match.start() for match in RESTART.finditer(coded)]
    next_restart = (coded[found[-1] + 1] + 1) % 8 if found else 0
    continuations = (_noise(seed, next_restart if has_restarts else None) for seed in NOISE_SEEDS)
    return all(_fingerprint(head + coded + noise + END, reduction, mode) == shown for noise in continuations)


def _noise(seed: int, next_restart: int | None) -> bytes:
    """Coded data of no image, with restart markers in their order where the image has them."""
    rng = random.Random(seed)

    def piece() -> bytes:
        return bytes(rng.randrange(255) for _ in range(NOISE_BYTES))  # none is 255, which begins a marker

    if next_restart is None:
        return piece()
    return piece() + b"".join(bytes((0xFF, 0xD0 + (next_restart + step) % 8)) + piece() for step in range(8))


def _fingerprint(data: bytes, reduction: int, mode: str | None) -> bytes | None:
    """A digest of the decoded pixels, None if none decode. It is taken in bands, and no two images are held at once."""
    try:
        image = open_reduced(data, reduction, mode)
        image.load()
    except MemoryError:
        raise
    except Exception:  # a hostile header may raise anything
        return None
    digest = hashlib.sha256()
    for top in range(0, image.height, BAND_ROWS):
        digest.update(image.crop((0, top, image.width, min(top + BAND_ROWS, image.height))).tobytes())
    return digest.digest()
