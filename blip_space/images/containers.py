"""WebP, GIF, AVIF and HEIF files rebuilt around their pixels, for files of which a decoder rejects something else."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from blip_space.images import orientations

WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ALPH")
WEBP_SIDE_FLAGS = 0x20 | 0x08 | 0x04
"""In the first byte of VP8X: a profile, EXIF and XMP are there."""

GIF_EXTENSION, GIF_IMAGE, GIF_CONTROL = 0x21, 0x2C, 0xF9
ITEM_INFO = re.compile(rb"(infe(?:\x02.{5}|\x03.{7}).{2})(?:Exif|mime)", re.DOTALL)
"""An entry of ISO 23008-12 that announces EXIF or XMP: version, flags, the item's number, its protection, its type."""


def rebuild_webp(data: bytes) -> bytes | None:
    """The WebP of the same first frame without profile, EXIF and XMP; None where the frame is not whole."""
    kept: list[tuple[bytes, bytes]] = []
    for kind, payload, is_whole in _webp_chunks(data):
        if kind == b"VP8X" and payload:
            kept.append((kind, bytes((payload[0] & ~WEBP_SIDE_FLAGS,)) + payload[1:]))
        elif kind in (*WEBP_PIXELS, b"ANIM", b"ANMF") and is_whole:
            kept.append((kind, payload))
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            break
    if not kept or kept[-1][0] not in (b"VP8 ", b"VP8L", b"ANMF"):
        return None
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2) for kind, payload in kept
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_orientation(data: bytes) -> int:
    """How the image is turned (EXIF's number, 1 for upright), by its EXIF or else its XMP where they are whole."""
    side = {kind: payload for kind, payload, is_whole in _webp_chunks(data) if is_whole}
    found = orientations.of_exif(side.get(b"EXIF", b""))
    return found if found != 1 else orientations.of_xmp(side.get(b"XMP ", b""))


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Type and payload of each chunk, and whether the file holds all of it."""
    start = 12
    while start + 8 <= len(data):
        kind, (length,) = data[start : start + 4], struct.unpack_from("<I", data, start + 4)
        payload = data[start + 8 : start + 8 + length]
        yield kind, payload, len(payload) == length
        start += 8 + length + length % 2


def rebuild_gif(data: bytes) -> bytes | None:
    """The GIF of the first image alone, as far as its coded data go; None where it has none."""
    start = 13 + _colours_bytes(data[10:11])
    control = b""
    while start + 2 <= len(data):
        if data[start] == GIF_EXTENSION:
            stop, coded = _sub_blocks(data, start + 2)
            if data[start + 1] == GIF_CONTROL and len(coded) == 4:
                control = data[start:stop]
            start = stop
        elif data[start] == GIF_IMAGE:
            first = start + 11 + _colours_bytes(data[start + 9 : start + 10])
            _, coded = _sub_blocks(data, first)
            blocks = b"".join(
                bytes((len(piece),)) + piece for piece in (coded[i : i + 255] for i in range(0, len(coded), 255))
            )
            colours = data[: 13 + _colours_bytes(data[10:11])]
            return colours + control + data[start:first] + blocks + b"\0;" if coded else None
        else:
            return None
    return None


def _colours_bytes(flags: bytes) -> int:
    """The length of the colour table that a byte of flags announces."""
    return 3 * (2 << (flags[0] & 7)) if flags and flags[0] & 0x80 else 0


def _sub_blocks(data: bytes, start: int) -> tuple[int, bytes]:
    """Where a chain of sub-blocks ends, and what they hold, the last one as far as the file goes."""
    pieces = []
    while start < len(data) and data[start]:
        pieces.append(data[start + 1 : start + 1 + data[start]])
        start += 1 + data[start]
    return start + 1, b"".join(pieces)


def rebuild_heif(data: bytes) -> bytes | None:
    """The AVIF or HEIF with its EXIF and XMP under a type that no decoder looks for; None where it announces none."""
    rebuilt, count = ITEM_INFO.subn(rb"\1skip", data)
    return rebuilt if count else None
