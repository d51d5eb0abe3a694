"""A PNG rebuilt from the chunks that decide its pixels, for files of which Pillow rejects something else.

Long or damaged text, profiles and EXIF, wrong checksums of ancillary chunks and a missing end go; so does what the PNG
specification (third edition, 5 and 11) makes optional. What viewers based on libpng refuse is refused here too: a wrong
checksum of the header or the palette, and pixel data that do not hold every row.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from blip_space.images import orientations

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel of each colour type."""

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, step of columns and step of rows of each pass of an interlaced image."""

RAW_EXIF = b"Raw profile type exif\0"
MAX_ORIENTATION_BYTES = 1_000_000
"""A longer chunk is not asked for the orientation."""

INPUT_BYTES, PIECE_BYTES = 1 << 16, 1 << 20
"""So much is inflated at a time, and to so much at most: the rows are counted, not kept."""

RAW_DEFLATE = -15
"""Tells zlib to leave the checksum of the stream alone."""


@dataclass(frozen=True)
class Chunk:
    """One chunk: its type, its payload (shorter than it says at the end of a file) and whether its checksum is right.

    `is_right` is None where the file ends before the checksum does.
    """

    kind: bytes
    payload: bytes
    is_right: bool | None

    def packed(self) -> bytes:
        """The chunk as it is written, with its right checksum."""
        return chunk(self.kind, self.payload)


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk of that type as it is written."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(payload, zlib.crc32(kind)))


def rebuild(data: bytes, *, max_pixels: int) -> bytes | None:
    """The PNG of the same pixels without anything else, or None where a row or a chunk that decides them is missing.

    The rows of an image of more than `max_pixels` pixels are not looked at.
    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0].kind != b"IHDR" or not chunks[0].is_right or len(chunks[0].payload) != 13:
        return None
    header = chunks[0].payload
    pixel_data = [part for part in chunks if part.kind == b"IDAT"]
    palette = _first(chunks, b"PLTE")
    if header[9] not in CHANNELS or not pixel_data or (header[9] == 3 and not palette):
        return None
    stream = b"".join(part.payload for part in pixel_data)
    width, height = struct.unpack_from(">II", header)
    if width * height <= max_pixels:
        is_trusted = all(part.is_right is not False for part in pixel_data)
        complete = _complete_stream(stream, _inflated_bytes(header), is_trusted=is_trusted)
        if complete is None:
            return None
        stream = complete
    parts = [
        chunks[0],
        palette,
        _transparency(chunks, palette),
        Chunk(b"IDAT", stream, True),
        Chunk(b"IEND", b"", True),
    ]
    return SIGNATURE + b"".join(part.packed() for part in parts if part)


def _transparency(chunks: list[Chunk], palette: Chunk | None) -> Chunk | None:
    """What is transparent, where its length is one that the kind of colours has."""
    part, kind = _first(chunks, b"tRNS"), chunks[0].payload[9]
    size = len(part.payload) if part else 0
    most = {0: 2, 2: 6, 3: len(palette.payload) // 3 if palette else 0}.get(kind, 0)
    least = 1 if kind == 3 else most
    return part if most and least <= size <= most else None


def transparent_grey(data: bytes) -> int | None:
    """The transparent level, from 0 to 255, of a PNG of 2 or 4 bits of grey; None for all others.

    Pillow scales the pixels of such an image to 8 bits and leaves its transparent level as it is.
    """
    if not data.startswith(SIGNATURE) or data[24:26] not in (b"\x02\0", b"\x04\0"):
        return None
    part, white = _first(list(_chunks(data)), b"tRNS"), 2 ** data[24] - 1
    level = int.from_bytes(part.payload[:2], "big") if part and len(part.payload) == 2 else white + 1
    return level * (255 // white) if level <= white else None


def orientation(data: bytes) -> int:
    """How the image is turned (EXIF's number, 1 for upright), by the first intact chunk that says so."""
    for part in _chunks(data):
        if part.is_right and len(part.payload) <= MAX_ORIENTATION_BYTES and (number := _orientation(part)) != 1:
            return number
    return 1


def _orientation(part: Chunk) -> int:
    if part.kind == b"eXIf":
        return orientations.of_exif(part.payload)
    if part.kind == b"iTXt" and part.payload.startswith(b"XML:com.adobe.xmp\0\0"):
        return orientations.of_xmp(part.payload)
    if part.kind == b"tEXt" and part.payload.startswith(RAW_EXIF):
        return _of_raw_profile(part.payload[len(RAW_EXIF) :])
    if part.kind == b"zTXt" and part.payload.startswith(RAW_EXIF + b"\0"):
        try:
            text = zlib.decompressobj().decompress(part.payload[len(RAW_EXIF) + 1 :], MAX_ORIENTATION_BYTES)
        except zlib.error:
            return 1
        return _of_raw_profile(text)
    return 1


def _of_raw_profile(text: bytes) -> int:
    """Of EXIF as ImageMagick writes it into text: an empty line, a name, a length, then hexadecimal lines."""
    try:
        return orientations.of_exif(bytes.fromhex("".join(text.decode("ascii").split("\n")[3:])))
    except ValueError:
        return 1


def _chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks up to the end of the image, or to where the file ends or makes no sense."""
    start = len(SIGNATURE)
    while start + 8 <= len(data) and data[start + 4 : start + 8].isalpha():
        (length,) = struct.unpack_from(">I", data, start)
        kind, payload = data[start + 4 : start + 8], data[start + 8 : start + 8 + length]
        stored = data[start + 8 + length : start + 12 + length]
        checksum = zlib.crc32(payload, zlib.crc32(kind))
        yield Chunk(kind, payload, struct.unpack(">I", stored)[0] == checksum if len(stored) == 4 else None)
        if kind == b"IEND":
            return
        start += 12 + length


def _first(chunks: list[Chunk], kind: bytes) -> Chunk | None:
    return next((part for part in chunks if part.kind == kind and part.is_right), None)


def _inflated_bytes(header: bytes) -> int:
    """How many bytes the rows have, each with the number of its filter."""
    width, height, depth, colour, _, _, is_interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * CHANNELS[colour]
    sizes = [(width, height)]
    if is_interlaced:
        sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in ADAM7]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def _complete_stream(stream: bytes, expected: int, *, is_trusted: bool) -> bytes | None:
    """The zlib stream of every row, or None where rows are missing or two checksums agree that they are damaged."""
    count, checksum = 0, 1
    for piece in _inflated(stream, expected):
        count, checksum = count + len(piece), zlib.adler32(piece, checksum)
    if count < expected:
        return None
    if stream.endswith(struct.pack(">I", checksum)):
        return stream
    if not is_trusted:
        return None
    deflater = zlib.compressobj(1)
    return b"".join(deflater.compress(piece) for piece in _inflated(stream, expected)) + deflater.flush()


def _inflated(stream: bytes, expected: int) -> Iterator[bytes]:
    """What the stream holds of the expected bytes, whatever comes after them."""
    if len(stream) < 2 or stream[0] & 15 != 8 or int.from_bytes(stream[:2], "big") % 31:
        return
    inflater, missing = zlib.decompressobj(RAW_DEFLATE), expected
    view = memoryview(stream)
    for start in range(2, len(stream), INPUT_BYTES):
        rest: bytes | memoryview = view[start : start + INPUT_BYTES]
        while missing and not inflater.eof:
            try:
                piece = inflater.decompress(rest, min(missing, PIECE_BYTES))
            except zlib.error:
                return
            rest, missing = inflater.unconsumed_tail, missing - len(piece)
            yield piece
            if not rest and len(piece) < PIECE_BYTES:
                break
