"""Untrusted bytes become an image and its digest, or a sentence.

The one package that opens images, and where every limit on them is. Knows nothing of models: what size a model
takes is its own affair.

    flattening     any mode to 8-bit RGB
    estimates      how much memory decoding takes, by the header of a file
    budget         how much of it there may be at once
    decoder        bytes to pixels, with the limits on pixels
    formats        which formats are read, and what is said of all others
    jpeg           the segments of a JPEG and its reduction
    jpeg_repair, png, tiff, containers
                   files rebuilt around their pixels where something else is damaged
    orientations   EXIF's turns
    heif           the optional pillow-heif
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image

from blip_space.errors import ImageError
from blip_space.images import orientations
from blip_space.images.budget import DecodingBudget
from blip_space.images.decoder import MAX_JPEG_PIXELS, MAX_PIXELS, decode_pixels
from blip_space.images.estimates import decoding_bytes
from blip_space.images.flattening import flat
from blip_space.images.formats import FORMAT_NAMES, FORMATS, WAY_OUT, endings, is_image

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "FORMAT_NAMES",
    "MAX_DECODING_BYTES",
    "MAX_FILE_BYTES",
    "MAX_JPEG_PIXELS",
    "MAX_PIXELS",
    "MAX_UPLOAD_BYTES",
    "WAY_OUT",
    "ImageFile",
    "SafeImage",
    "decode",
    "digest",
    "from_pillow",
    "is_image",
    "read_file",
]

MAX_UPLOAD_BYTES = 20_000_000
"""Of an upload."""

MAX_FILE_BYTES = 64_000_000
"""Of a file of the machine's own user."""

MAX_DECODING_BYTES = 600_000_000
"""Of memory that decoding and resizing may take in this process at once. One image of 64 megapixels takes 512 MB."""

DECODING = DecodingBudget(MAX_DECODING_BYTES)

EXTENSIONS = endings()
"""All endings, lower-case and with their dot, under which the formats that are read or told of are saved."""


@dataclass(frozen=True, eq=False)
class SafeImage:
    """A decoded image: upright 8-bit RGB pixels, and the SHA-256 of the bytes it came from in hexadecimal."""

    pixels: Image.Image
    digest: str

    @contextmanager
    def open(self) -> Iterator[SafeImage]:
        """The same as of a file; nothing is reserved."""
        yield self


@dataclass(frozen=True, eq=False)
class ImageFile:
    """The bytes of an image that is not decoded yet, so that a request holds no more than these."""

    data: bytes = field(repr=False)
    max_bytes: int = MAX_UPLOAD_BYTES

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the bytes in hexadecimal, computed once."""
        return digest(self.data)

    @contextmanager
    def open(self) -> Iterator[SafeImage]:
        """The decoded image, for as long as the context lasts; afterwards its pixels are gone.

        Waits until there is room for it within `MAX_DECODING_BYTES`. Must not be opened inside another's context.
        Raises `ImageError` with a sentence for what is empty, too large, damaged or of another format.
        """
        _check_size(self.data, self.max_bytes)
        with DECODING.reserve(decoding_bytes(self.data)):
            image = SafeImage(decode_pixels(self.data), self.digest)
            try:
                yield image
            finally:
                image.pixels.close()  # whoever still holds it holds no memory


def decode(source: str | Path | bytes, *, max_bytes: int = MAX_UPLOAD_BYTES) -> SafeImage:
    """Read an image from a path or from its bytes: first frame, upright, on white where it is transparent.

    Raises `ImageError` with a sentence for whatever is missing, too large, damaged or of another format.
    """
    data = source if isinstance(source, bytes) else read_file(Path(source), max_bytes=max_bytes)
    _check_size(data, max_bytes)
    with DECODING.reserve(decoding_bytes(data)):
        return SafeImage(decode_pixels(data), digest(data))


def from_pillow(image: Image.Image) -> SafeImage:
    """An image that a program opened with Pillow, upright and on white; its digest is that of its mode, size and
    pixels."""
    turn = orientations.of_image(image)
    content = hashlib.sha256(f"{image.mode} {image.size} {turn}".encode())
    content.update(image.tobytes())
    return SafeImage(orientations.upright(flat(image), turn), content.hexdigest())


def digest(data: bytes) -> str:
    """The SHA-256 of an image's bytes in hexadecimal, by which equal images are known everywhere."""
    return hashlib.sha256(data).hexdigest()


def read_file(path: Path, *, max_bytes: int = MAX_UPLOAD_BYTES) -> bytes:
    """A file's bytes, `max_bytes` + 1 of them at most. `ImageError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ImageError(f"There is no file {path.name!r}. {WAY_OUT}") from None
    except IsADirectoryError:
        raise ImageError(f"{path.name!r} is a folder, not a picture. {WAY_OUT}") from None
    except (OSError, ValueError):
        raise ImageError(f"The file {path.name!r} cannot be read. Check its permissions, or send another.") from None


def _check_size(data: bytes, max_bytes: int) -> None:
    if not data:
        raise ImageError(f"The file is empty (0 bytes). {WAY_OUT}")
    if len(data) > max_bytes:
        raise ImageError(
            f"The file is larger than {max_bytes / 1e6:g} MB, and at most {max_bytes / 1e6:g} MB are read. "
            "Send a smaller or more strongly compressed copy."
        )
