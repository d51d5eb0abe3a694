"""Rebuilds a JPEG from the segments that its pixels depend on, if Pillow rejects something else in the file.

The rebuilt file has tables, frame and scans, the JFIF and Adobe segments that set the colour space, and an end marker.
To find out whether the coded data are complete, they are decoded with different random bytes after them.
"""

from __future__ import annotations

import hashlib
import random
import re
from functools import partial

from blip_space.images.jpeg import FRAMES, REDUCTIONS, SOS, START, Segment, open_reduced, read_header, read_segments

END = b"\xff\xd9"
DRI = 0xDD
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
PIXEL_MARKERS = FRAMES | {0xC4, 0xCC, 0xDB, DRI, SOS}
RESTART = re.compile(rb"\xff[\xd0-\xd7]")
JFIF_BYTES, ADOBE_BYTES = 14, 12
"""Minimum sizes. libjpeg ignores shorter JFIF and Adobe segments, and Pillow fails on some of them."""

NOISE_SEEDS = (1, 2, 3)
NOISE_BYTES = 512
BAND_ROWS = 256
MIN_BLOCKS = 64
"""An image with at least this many blocks may lack detail in the last one."""


def rebuild_jpeg(data: bytes, *, reduction: int) -> bytes | None:
    """The JPEG with only the segments that its pixels need, or None if rows are missing.

    To find missing rows, the file is decoded at `reduction`.
    """
    segments = [segment for segment in read_segments(data, with_scans=True) if _affects_pixels(segment)]
    if not segments or segments[-1].marker != SOS or not _covers_image(segments):
        return None
    head = START + b"".join(segment.packed() for segment in segments[:-1]) + Segment(SOS, segments[-1].payload).packed()
    scan = segments[-1].scan.rstrip(b"\xff")  # the first byte of a cut-off marker
    check = partial(_is_complete, head, reduction=reduction, has_restarts=_has_restarts(segments))
    stripped = _without_padding(scan)
    if check(stripped) or (_may_lack_detail(head) and check(stripped, mode="L", reduction=REDUCTIONS[0])):
        return head + stripped + END
    if len(stripped) < len(scan) and check(scan) and not check(scan[:-1]):
        return head + scan + END  # an area of one colour is coded as zeros, so here the zeros are no padding
    return None


def _affects_pixels(segment: Segment) -> bool:
    """Whether the pixels depend on `segment`. They do not depend on a damaged JFIF or Adobe segment."""
    if segment.marker == 0xE0:
        return segment.payload.startswith(b"JFIF\0") and len(segment.payload) >= JFIF_BYTES
    if segment.marker == 0xEE:
        return segment.payload.startswith(b"Adobe") and len(segment.payload) >= ADOBE_BYTES
    return segment.marker in PIXEL_MARKERS


def _covers_image(segments: list[Segment]) -> bool:
    """Whether the scans contain every component according to their headers, in full precision if progressive."""
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
    """Coded data without the bytes 0 and 255 that a disk leaves at the end of a file that was not fully written."""
    stripped = coded.rstrip(b"\0\xff")
    while coded[len(stripped) : len(stripped) + 2] == b"\xff\0":  # a coded 0xFF
        stripped += b"\xff\0"
    return stripped


def _has_restarts(segments: list[Segment]) -> bool:
    return any(segment.marker == DRI and any(segment.payload) for segment in segments)


def _may_lack_detail(head: bytes) -> bool:
    """Whether it is enough that the first coefficient of every block's brightness is complete, as with many blocks.

    Requires a scan in which the blocks of all components are interleaved, so that only the last ones can be incomplete.
    Viewers show such an image without a visible error.
    """
    header = read_header(head)
    if header is None or not header.is_streamed:
        return False
    across, down = (8 * max(factors) for factors in zip(*header.sampling, strict=True))
    return bool(across * down * MIN_BLOCKS <= header.pixels)


def _is_complete(head: bytes, coded: bytes, *, reduction: int, has_restarts: bool, mode: str | None = None) -> bool:
    """Whether `coded`, the coded data of the last scan, are complete for decoding at `reduction` and in `mode`.

    libjpeg fills missing data with grey or with the last value, and Pillow does not report it. So the image is decoded
    with different noise after the data: if nothing is missing, no noise is read, and the pixels stay the same.
    """
    expected = _fingerprint(head + coded + END, reduction, mode)
    if expected is None:
        return False
    restarts = [match.start() for match in RESTART.finditer(coded)]
    next_restart = (coded[restarts[-1] + 1] + 1) % 8 if restarts else 0
    continuations = (_noise(seed, next_restart if has_restarts else None) for seed in NOISE_SEEDS)
    return all(_fingerprint(head + coded + noise + END, reduction, mode) == expected for noise in continuations)


def _noise(seed: int, next_restart: int | None) -> bytes:
    """Random coded data; with restart markers, beginning with the number `next_restart`, unless that is None."""
    rng = random.Random(seed)

    def random_bytes() -> bytes:
        return bytes(rng.randrange(255) for _ in range(NOISE_BYTES))  # without 255, which begins a marker

    if next_restart is None:
        return random_bytes()
    markers = (bytes((0xFF, 0xD0 + (next_restart + step) % 8)) for step in range(8))
    return random_bytes() + b"".join(marker + random_bytes() for marker in markers)


def _fingerprint(data: bytes, reduction: int, mode: str | None) -> bytes | None:
    """A digest of the decoded pixels, computed in bands to save memory; None if decoding fails."""
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
