"""Rebuilds a TIFF's directory with only the tags that its pixels depend on, if Pillow rejects another tag.

The new directory overwrites the old one, so every offset stays valid; missing pixel data stay missing. Follows TIFF 6.0
and BigTIFF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PIXEL_TAGS = frozenset(
    {
        *(254, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 280, 281, 284, 290, 291, 292, 293, 297),
        *(317, 320, 322, 323, 324, 325, 332, 334, 336, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520),
        *(521, 529, 530, 531, 532),
    }
)
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, HEIGHT = 256, 257
MAX_TAGS = 4_096
"""How many tags of a directory are read; no photograph has more."""


@dataclass(frozen=True)
class Layout:
    """A directory's layout: where in the file its offset is, and the `struct` formats of offset, count and entry."""

    offset_at: int
    offset: str
    count: str
    entry: str
    inline_bytes: int


def rebuild_tiff(data: bytes) -> bytes | None:
    """The TIFF with only the tags that its pixels need; None if its directory cannot be read.

    Tags whose values are beyond the end of the file are dropped.
    """
    layout = _layout(data)
    if layout is None:
        return None
    (start,) = struct.unpack_from(layout.offset, data, layout.offset_at)
    if start + struct.calcsize(layout.count) > len(data):
        return None
    entries = [entry for entry in _entries(data, start, layout) if _affects_pixels(data, entry, layout)]
    directory = struct.pack(layout.count, len(entries)) + b"".join(entries) + struct.pack(layout.offset, 0)
    if not entries or start + len(directory) > len(data):
        return None
    return data[:start] + directory + data[start + len(directory) :]


def read_size(data: bytes) -> tuple[int, int]:
    """Width and height of the first image, 0 if its directory does not have them."""
    layout = _layout(data)
    if layout is None:
        return 0, 0
    (start,) = struct.unpack_from(layout.offset, data, layout.offset_at)
    sides = {WIDTH: 0, HEIGHT: 0}
    for entry in _entries(data, start, layout) if start + struct.calcsize(layout.count) <= len(data) else []:
        tag, kind, _, value = struct.unpack(layout.entry, entry)
        if tag in sides:
            sides[tag] = int.from_bytes(value[: TYPE_BYTES.get(kind, 0)], "big" if data[:2] == b"MM" else "little")
    return sides[WIDTH], sides[HEIGHT]


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
    offsets = range(first, first + min(count, MAX_TAGS) * size, size)
    return [data[offset : offset + size] for offset in offsets if offset + size <= len(data)]


def _affects_pixels(data: bytes, entry: bytes, layout: Layout) -> bool:
    """Whether the pixels depend on the entry and its value is inside the file."""
    tag, kind, count, value = struct.unpack(layout.entry, entry)
    size = TYPE_BYTES.get(kind, 0) * count
    if tag not in PIXEL_TAGS or not size or (tag == 274 and count != 1):
        return False
    return size <= layout.inline_bytes or bool(struct.unpack(layout.offset, value)[0] + size <= len(data))
