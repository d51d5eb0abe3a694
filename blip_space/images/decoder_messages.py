"""The messages between a server and its decoder processes: binary, so that nothing that a decoder sends is executed.

A request is a header, the resizes and the file's bytes. A reply is a header, and then the pixels of each image in
strips of rows, or an error: a line of JSON with its code, and its sentence.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import BinaryIO, NamedTuple

from PIL import Image

from blip_space.errors import CODES, ImageError

READY = b"ready"
REQUEST = struct.Struct("<QBB")
"""The length of the file, the task, and the number of resizes, which follow."""

RESIZE = struct.Struct("<IIId")
"""The fields of a `Resize`."""

REPLY = struct.Struct("<BIII")
"""The outcome, the image's width and height, the sentence's length."""

STRIP_PIXELS = 1_000_000
MAX_SENTENCE_BYTES = 20_000
MAX_VALUES, MAX_VALUE_CHARACTERS = 8, 100
DECODE_SECONDS = 10
"""The processor time that one image may take, where the system can limit it."""

REDUCING_GAP = 3.0
"""A cropped square is first reduced by an integer to at least this many times its size, as Pillow recommends."""


class Resize(NamedTuple):
    """A size in pixels, and Pillow's number of the filter that resizes an image to it. If `crop` is above 0, only the
    square in the middle is resized whose side is this share of the image's shorter side."""

    width: int
    height: int
    resample: int
    crop: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def apply(self, image: Image.Image) -> Image.Image:
        """The resized image; Pillow copies an image of the same size that is not cropped."""
        if not self.crop:
            return image.resize(self.size, Image.Resampling(self.resample))
        side = min(image.size) * self.crop
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return image.resize(
            self.size,
            Image.Resampling(self.resample),
            box=(left, top, left + side, top + side),
            reducing_gap=REDUCING_GAP,
        )


class Task(IntEnum):
    """What to do with an image."""

    DECODE = 0
    RESIZE = 1
    CHECK = 2


class Outcome(IntEnum):
    """What came of it: pixels, a sentence for the user, or a traceback for the log."""

    DECODED = 0
    REJECTED = 1
    FAILED = 2


class Reply(NamedTuple):
    """The header of a reply."""

    outcome: Outcome
    size: tuple[int, int]
    sentence_bytes: int

    def packed(self) -> bytes:
        """The bytes of the header."""
        return REPLY.pack(self.outcome, *self.size, self.sentence_bytes)


def read_reply(file: BinaryIO) -> Reply:
    """Read the header of a reply. Raises `EOFError` if the process ends first, `ValueError` if it is none."""
    outcome, width, height, length = REPLY.unpack(read_exactly(file, REPLY.size))
    return Reply(Outcome(outcome), (width, height), min(length, MAX_SENTENCE_BYTES))


def pack_request(length: int, task: Task, resizes: Sequence[Resize]) -> bytes:
    """The bytes before those of a file of that length."""
    return REQUEST.pack(length, task, len(resizes)) + b"".join(RESIZE.pack(*resize) for resize in resizes)


def read_request(file: BinaryIO) -> tuple[int, Task, list[Resize]]:
    """What `pack_request` packed. Raises `EOFError` if there is no other request."""
    length, task, count = REQUEST.unpack(read_exactly(file, REQUEST.size))
    return length, Task(task), [Resize(*RESIZE.unpack(read_exactly(file, RESIZE.size))) for _ in range(count)]


def pack_error(error: ImageError) -> str:
    """The error in the text of a reply."""
    return f"{json.dumps({'code': error.code, 'detail': error.detail, 'values': dict(error.values)})}\n{error}"


def unpack_error(text: str) -> ImageError:
    """The error in the text of a reply, which is untrusted: whatever does not belong in it is left out."""
    header, _, sentence = text.partition("\n")
    try:
        fields = json.loads(header)
    except (ValueError, RecursionError):
        fields = None
    fields = fields if isinstance(fields, dict) else {}
    code, detail, values = (fields.get(name) for name in ("code", "detail", "values"))
    return ImageError(
        sentence,
        code=next((known for known in CODES if known == code), None),
        detail=detail if isinstance(detail, str) and re.fullmatch("[a-z_]{0,40}", detail) else "",
        values=dict(_valid_values(values)) if isinstance(values, dict) else None,
    )


def _valid_values(values: dict[str, object]) -> Iterator[tuple[str, str | int]]:
    for name, value in list(values.items())[:MAX_VALUES]:
        if name.isidentifier() and isinstance(value, str | int):
            yield name, value[:MAX_VALUE_CHARACTERS] if isinstance(value, str) else value


def read_exactly(file: BinaryIO, count: int) -> bytes:
    """Read that many bytes. Raises `EOFError` if the file ends first."""
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def write_pixels(file: BinaryIO, image: Image.Image) -> None:
    """Write an image's pixels in strips, so that there is no second copy of all."""
    for box in _strips(image.size):
        file.write(image.crop(box).tobytes())


def read_pixels(file: BinaryIO, size: tuple[int, int]) -> Image.Image:
    """Read an RGB image of that size. Raises `EOFError` if the process ends first."""
    image = Image.new("RGB", size)
    for left, top, right, bottom in _strips(size):
        strip_size = right - left, bottom - top
        data = read_exactly(file, 3 * strip_size[0] * strip_size[1])
        image.paste(Image.frombytes("RGB", strip_size, data), (left, top))
    return image


def _strips(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    width, height = size
    rows = max(1, STRIP_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)
