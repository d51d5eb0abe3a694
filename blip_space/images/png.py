"""Rebuilds a PNG from the chunks that its pixels depend on, if Pillow rejects something else in the file.

All that is optional in the PNG specification (third edition, 5 and 11) is dropped, such as long or damaged text,
profiles and EXIF; a missing end is added. As in viewers based on libpng, missing rows and a wrong checksum of the
header or the palette are errors.
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
"""First column, first row, column step and row step of each pass of an interlaced image."""

RAW_EXIF = b"Raw profile type exif\0"
MAX_ORIENTATION_BYTES = 1_000_000
"""Chunks longer than this are not searched for an orientation."""

INPUT_BYTES, PIECE_BYTES = 1 << 16, 1 << 20
"""How many bytes are inflated at a time, and to how many at most; rows are counted without storing them."""

RAW_DEFLATE = -15
"""zlib's `wbits` for a raw stream, whose checksum is not verified."""


@dataclass(frozen=True)
class Chunk:
    """One chunk: its type, its payload (shorter if the file was cut off) and whether its checksum is valid.

    `is_valid` is None if the file ends before the checksum.
    """

    kind: bytes
    payload: bytes
    is_valid: bool | None

    def packed(self) -> bytes:
        """The bytes of the chunk, with a valid checksum."""
        checksum = zlib.crc32(self.payload, zlib.crc32(self.kind))
        return struct.pack(">I", len(self.payload)) + self.kind + self.payload + struct.pack(">I", checksum)


def rebuild_png(data: bytes, *, max_pixels: int) -> bytes | None:
    """The PNG with only the chunks that its pixels need, or None if such a chunk or a row is missing.

    Rows are not checked if the image has more than `max_pixels` pixels.
    """
    chunks = list(_read_chunks(data))
    if not chunks or chunks[0].kind != b"IHDR" or not chunks[0].is_valid or len(chunks[0].payload) != 13:
        return None
    header = chunks[0].payload
    pixel_data = [chunk for chunk in chunks if chunk.kind == b"IDAT"]
    palette = _first(chunks, b"PLTE")
    if header[9] not in CHANNELS or not pixel_data or (header[9] == 3 and not palette):
        return None
    stream = b"".join(chunk.payload for chunk in pixel_data)
    width, height = struct.unpack_from(">II", header)
    if width * height <= max_pixels:
        is_trusted = all(chunk.is_valid is not False for chunk in pixel_data)
        complete = _complete_stream(stream, _inflated_size(header), is_trusted=is_trusted)
        if complete is None:
            return None
        stream = complete
    rebuilt = [
        chunks[0],
        palette,
        _transparency(chunks, palette),
        Chunk(b"IDAT", stream, True),
        Chunk(b"IEND", b"", True),
    ]
    return SIGNATURE + b"".join(chunk.packed() for chunk in rebuilt if chunk)


def _transparency(chunks: list[Chunk], palette: Chunk | None) -> Chunk | None:
    """The transparency chunk (tRNS), or None if it is absent or its length is invalid for the colour type."""
    chunk, colour_type = _first(chunks, b"tRNS"), chunks[0].payload[9]
    size = len(chunk.payload) if chunk else 0
    maximum = {0: 2, 2: 6, 3: len(palette.payload) // 3 if palette else 0}.get(colour_type, 0)
    minimum = 1 if colour_type == 3 else maximum
    return chunk if maximum and minimum <= size <= maximum else None


def transparent_grey(data: bytes) -> int | None:
    """The transparent level, from 0 to 255, of a PNG with 2 or 4 bits of grey; None for all other images.

    Pillow scales the pixels of such an image to 8 bits, but not its transparent level.
    """
    if not data.startswith(SIGNATURE) or data[24:26] not in (b"\x02\0", b"\x04\0"):
        return None
    chunk, white = _first(list(_read_chunks(data)), b"tRNS"), 2 ** data[24] - 1
    level = int.from_bytes(chunk.payload[:2], "big") if chunk and len(chunk.payload) == 2 else white + 1
    return level * (255 // white) if level <= white else None


def orientation(data: bytes) -> int:
    """The orientation (EXIF's number, 1 for upright) in the first valid chunk that has one."""
    for chunk in _read_chunks(data):
        if chunk.is_valid and len(chunk.payload) <= MAX_ORIENTATION_BYTES and (number := _orientation_of(chunk)) != 1:
            return number
    return 1


def _orientation_of(chunk: Chunk) -> int:
    if chunk.kind == b"eXIf":
        return orientations.from_exif(chunk.payload)
    if chunk.kind == b"iTXt" and chunk.payload.startswith(b"XML:com.adobe.xmp\0\0"):
        return orientations.from_xmp(chunk.payload)
    if chunk.kind == b"tEXt" and chunk.payload.startswith(RAW_EXIF):
        return _from_raw_profile(chunk.payload[len(RAW_EXIF) :])
    if chunk.kind == b"zTXt" and chunk.payload.startswith(RAW_EXIF + b"\0"):
        try:
            text = zlib.decompressobj().decompress(chunk.payload[len(RAW_EXIF) + 1 :], MAX_ORIENTATION_BYTES)
        except zlib.error:
            return 1
        return _from_raw_profile(text)
    return 1


def _from_raw_profile(text: bytes) -> int:
    """The orientation in EXIF that ImageMagick stored as text: an empty line, a name, a length, hexadecimal lines."""
    try:
        return orientations.from_exif(bytes.fromhex("".join(text.decode("ascii").split("\n")[3:])))
    except ValueError:
        return 1


def _read_chunks(data: bytes) -> Iterator[Chunk]:
    """Yields the chunks up to IEND, the end of the file, or the first invalid byte."""
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
    return next((chunk for chunk in chunks if chunk.kind == kind and chunk.is_valid), None)


def _inflated_size(header: bytes) -> int:
    """The number of bytes of all rows, each with its filter byte."""
    width, height, depth, colour, _, _, is_interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * CHANNELS[colour]
    sizes = [(width, height)]
    if is_interlaced:
        sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in ADAM7]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def _complete_stream(stream: bytes, expected: int, *, is_trusted: bool) -> bytes | None:
    """The zlib stream with all rows; None if rows are missing, or if the checksums of stream and chunk are wrong."""
    count, checksum = 0, 1
    for piece in _inflate(stream, expected):
        count, checksum = count + len(piece), zlib.adler32(piece, checksum)
    if count < expected:
        return None
    if stream.endswith(struct.pack(">I", checksum)):
        return stream
    if not is_trusted:
        return None
    deflater = zlib.compressobj(1)
    return b"".join(deflater.compress(piece) for piece in _inflate(stream, expected)) + deflater.flush()


def _inflate(stream: bytes, expected: int) -> Iterator[bytes]:
    """Yields the inflated stream in pieces, at most `expected` bytes in all; further data are ignored."""
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
