"""Rebuild WebP, GIF, AVIF and HEIF files from their pixel data, if a decoder rejects something else in them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from blip_space.images import orientations

WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ALPH")
WEBP_METADATA_FLAGS = 0x20 | 0x08 | 0x04
"""Bits in the first byte of VP8X: whether the file has a colour profile, EXIF and XMP."""

GIF_EXTENSION, GIF_IMAGE, GIF_CONTROL = 0x21, 0x2C, 0xF9
ITEM_INFO = re.compile(rb"(infe(?:\x02.{5}|\x03.{7}).{2})(?:Exif|mime)", re.DOTALL)
"""The entry of an EXIF or XMP item (ISO 23008-12): version, flags, item number, protection and type."""


def rebuild_webp(data: bytes) -> bytes | None:
    """A WebP with only the first frame of `data`, without colour profile, EXIF and XMP; None if it is incomplete."""
    chunks: list[tuple[bytes, bytes]] = []
    for kind, payload, is_complete in _webp_chunks(data):
        if kind == b"VP8X" and payload:
            chunks.append((kind, bytes((payload[0] & ~WEBP_METADATA_FLAGS,)) + payload[1:]))
        elif kind in (*WEBP_PIXELS, b"ANIM", b"ANMF") and is_complete:
            chunks.append((kind, payload))
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            break
    if not chunks or chunks[-1][0] not in (b"VP8 ", b"VP8L", b"ANMF"):
        return None
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2) for kind, payload in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_orientation(data: bytes) -> int:
    """The orientation (EXIF's number, 1 for upright) in the EXIF chunk, or else in the XMP chunk, if complete."""
    chunks = {kind: payload for kind, payload, is_complete in _webp_chunks(data) if is_complete}
    return orientations.from_metadata(chunks.get(b"EXIF", b""), chunks.get(b"XMP ", b""))


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yields the type and the payload of each chunk, and whether the chunk is complete."""
    start = 12
    while start + 8 <= len(data):
        kind, (length,) = data[start : start + 4], struct.unpack_from("<I", data, start + 4)
        payload = data[start + 8 : start + 8 + length]
        yield kind, payload, len(payload) == length
        start += 8 + length + length % 2


def rebuild_gif(data: bytes) -> bytes | None:
    """A GIF with only the first image of `data`, up to the end of its coded data; None if there are none."""
    header, control = data[: 13 + _palette_bytes(data[10:11])], b""
    start = len(header)
    while start + 2 <= len(data):
        if data[start] == GIF_EXTENSION:
            stop, coded = _sub_blocks(data, start + 2)
            if data[start + 1] == GIF_CONTROL and len(coded) == 4:
                control = data[start:stop]
            start = stop
        elif data[start] == GIF_IMAGE:
            first = start + 11 + _palette_bytes(data[start + 9 : start + 10])
            _, coded = _sub_blocks(data, first)
            blocks = b"".join(
                bytes((len(piece),)) + piece for piece in (coded[i : i + 255] for i in range(0, len(coded), 255))
            )
            return header + control + data[start:first] + blocks + b"\0;" if coded else None
        else:
            return None
    return None


def _palette_bytes(flags: bytes) -> int:
    """The length of a colour table in bytes, from the byte of flags before it."""
    return 3 * (2 << (flags[0] & 7)) if flags and flags[0] & 0x80 else 0


def _sub_blocks(data: bytes, start: int) -> tuple[int, bytes]:
    """The end of a chain of sub-blocks, and their content; the end of the file may cut off the last one."""
    pieces = []
    while start < len(data) and data[start]:
        pieces.append(data[start + 1 : start + 1 + data[start]])
        start += 1 + data[start]
    return start + 1, b"".join(pieces)


def rebuild_heif(data: bytes) -> bytes | None:
    """The AVIF or HEIF with its EXIF and XMP items renamed to a type that decoders ignore; None if it has none."""
    rebuilt, count = ITEM_INFO.subn(rb"\1skip", data)
    return rebuilt if count else None
