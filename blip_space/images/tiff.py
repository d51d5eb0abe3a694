"""A TIFF with a new directory of the tags that decide its pixels, for files of which Pillow rejects another tag.

The directory is written over the old one, so every offset holds and a file that lacks its last bytes still lacks them.
Follows TIFF 6.0 and BigTIFF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

DECIDES_PIXELS = frozenset(
    {
        *(254, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 280, 281, 284, 290, 291, 292, 293, 297),
        *(317, 320, 322, 323, 324, 325, 332, 334, 336, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520),
        *(521, 529, 530, 531, 532),
    }
)
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, HEIGHT = 256, 257
MAX_TAGS = 4_096
"""Of a directory; more are no photograph's."""


@dataclass(frozen=True)
class Layout:
    """How a directory is written: where its offset lies, and the forms of the offset, its count and its entries."""

    offset_at: int
    offset: str
    count: str
    entry: str
    inline_bytes: int


def rebuild(data: bytes) -> bytes | None:
    """The TIFF of the same pixels without other tags; None where its directory cannot be read.

    Tags whose values lie beyond the end of the file are left out.
    """
    layout = _layout(data)
    if layout is None:
        return None
    (start,) = struct.unpack_from(layout.offset, data, layout.offset_at)
    if start + struct.calcsize(layout.count) > len(data):
        return None
    entries = [entry for entry in _entries(data, start, layout) if _decides(data, entry, layout)]
    directory = struct.pack(layout.count, len(entries)) + b"".join(entries) + struct.pack(layout.offset, 0)
    if not entries or start + len(directory) > len(data):
        return None
    return data[:start] + directory + data[start + len(directory) :]


def pixels(data: bytes) -> int:
    """Width times height of the first image; 0 where its directory does not say them."""
    layout = _layout(data)
    if layout is None:
        return 0
    (start,) = struct.unpack_from(layout.offset, data, layout.offset_at)
    sides = {WIDTH: 0, HEIGHT: 0}
    for entry in _entries(data, start, layout) if start + struct.calcsize(layout.count) <= len(data) else []:
        tag, kind, _, value = struct.unpack(layout.entry, entry)
        if tag in sides:
            sides[tag] = int.from_bytes(value[: TYPE_BYTES.get(kind, 0)], "big" if data[:2] == b"MM" else "little")
    return sides[WIDTH] * sides[HEIGHT]


def _layout(data: bytes) -> Layout | None:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return None
    if struct.unpack_from(order + "H", data, 2)[0] == 43:
        return Layout(8, order + "Q", order + "Q", order + "HHQ8s", 8)
    return Layout(4, order + "I", order + "H", order + "HHI4s", 4)


def _entries(data: bytes, start: int, layout: Layout) -> list[bytes]:
    (count,) = struct.unpack_from(layout.count, data, start)
    first, size = start + struct.calcsize(layout.count), struct.calcsize(layout.entry)
    places = range(first, first + min(count, MAX_TAGS) * size, size)
    return [data[place : place + size] for place in places if place + size <= len(data)]


def _decides(data: bytes, entry: bytes, layout: Layout) -> bool:
    """Whether an entry decides pixels and its value is there."""
    tag, kind, count, value = struct.unpack(layout.entry, entry)
    size = TYPE_BYTES.get(kind, 0) * count
    if tag not in DECIDES_PIXELS or not size or (tag == 274 and count != 1):
        return False
    return size <= layout.inline_bytes or bool(struct.unpack(layout.offset, value)[0] + size <= len(data))
