"""Decode untrusted bytes into an image and its digest, or raise an error for the user.

The only package that opens images; all limits on them are here. Must not import models, which resize images.

    flattening     any mode to 8-bit RGB
    estimates      the memory that decoding a file takes, estimated from its header
    budget         a limit on the memory of all images being decoded
    decoder        bytes to pixels, with the limits on pixels
    formats        the supported formats, and the messages for all others
    jpeg           the segments of a JPEG and its reduction
    jpeg_repair, png, tiff, containers
                   rebuild a file from its pixel data if anything else in it is damaged
    orientations   the orientation in EXIF and XMP
    heif           the optional pillow-heif

Uploads are decoded in processes of their own, and within further limits:

    uploaded       an uploaded image
    announced      limits on sides, memory and work, from its header
    decoding_queue whose image is next
    decoder_pool, decoder_process, decoder_messages, decoder_main
                   the processes, from both sides
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from PIL import Image

from blip_space.errors import ImageError
from blip_space.images import orientations
from blip_space.images.budget import DecodingBudget
from blip_space.images.decoder import MAX_JPEG_PIXELS, MAX_PIXELS, decode_pixels
from blip_space.images.decoder_messages import Resize
from blip_space.images.estimates import estimate_decoding_bytes
from blip_space.images.flattening import flatten
from blip_space.images.formats import FORMAT_NAMES, FORMATS, SEND_SUPPORTED, find_extensions, is_image

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "FORMAT_NAMES",
    "MAX_DECODING_BYTES",
    "MAX_FILE_BYTES",
    "MAX_JPEG_PIXELS",
    "MAX_PIXELS",
    "MAX_UPLOAD_BYTES",
    "ImageFile",
    "Resize",
    "SafeImage",
    "check_file_size",
    "decode",
    "digest",
    "from_pillow",
    "is_image",
    "read_file",
]

MAX_UPLOAD_BYTES = 20_000_000
MAX_FILE_BYTES = 64_000_000
"""The limit for a local file."""

MAX_DECODING_BYTES = 600_000_000
"""The memory that decoding and resizing may take in this process at once. One image of 64 megapixels takes 512 MB."""

DECODING_BUDGET = DecodingBudget(MAX_DECODING_BYTES)

EXTENSIONS = find_extensions()
"""The extensions of the supported formats and of HEIC, lower-case and with their dot."""


@dataclass(frozen=True, eq=False)
class SafeImage:
    """A decoded image: upright 8-bit RGB pixels, and the SHA-256 of its file's bytes in hexadecimal. If another process
    resized it already, `resized` has what each resize made of it, `pixels` is the first, and its size is given."""

    pixels: Image.Image
    digest: str
    original_size: tuple[int, int] | None = None
    resized: tuple[Image.Image, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height before any resize."""
        return self.original_size or self.pixels.size

    @contextmanager
    def open(self, resizes: Sequence[Resize] = ()) -> Iterator[SafeImage]:  # noqa: ARG002
        """Yields this image. As `ImageFile.open`, but without reserving memory."""
        yield self


@dataclass(frozen=True, eq=False)
class ImageFile:
    """The bytes of an image that is not decoded yet, so that a waiting request holds only these."""

    data: bytes = field(repr=False)
    max_bytes: int = MAX_UPLOAD_BYTES

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the bytes in hexadecimal, computed once."""
        return digest(self.data)

    def check(self) -> None:
        """Raise `ImageError` if the image cannot be decoded."""
        with self.open():
            pass

    @contextmanager
    def open(self, resizes: Sequence[Resize] = ()) -> Iterator[SafeImage]:  # noqa: ARG002
        """Yields the decoded image; its pixels are freed when the context ends.

        `resizes` are all that the caller needs of it, for an image that is decoded in another process; here the caller
        resizes it, with the same result. Waits until decoding fits into `MAX_DECODING_BYTES`. Must not be
        called inside the context of another image.
        Raises `ImageError` for an empty, too large, damaged or unsupported file.
        """
        check_file_size(len(self.data), self.max_bytes)
        with DECODING_BUDGET.reserve(estimate_decoding_bytes(self.data)):
            image = SafeImage(decode_pixels(self.data), self.digest)
            try:
                yield image
            finally:
                image.pixels.close()  # frees the memory even if the caller keeps a reference


def decode(source: str | Path | bytes, *, max_bytes: int = MAX_UPLOAD_BYTES) -> SafeImage:
    """Decode an image from a path or from its bytes: its first frame, upright, transparency on white.

    Raises `ImageError` for a missing, empty, too large, damaged or unsupported file.
    """
    data = source if isinstance(source, bytes) else read_file(Path(source), max_bytes=max_bytes)
    check_file_size(len(data), max_bytes)
    with DECODING_BUDGET.reserve(estimate_decoding_bytes(data)):
        return SafeImage(decode_pixels(data), digest(data))


def from_pillow(image: Image.Image) -> SafeImage:
    """An image that the caller opened with Pillow: upright, transparency on white.

    Its digest is the SHA-256 of its mode, size, orientation and pixels.
    """
    orientation = orientations.from_image(image)
    content = hashlib.sha256(f"{image.mode} {image.size} {orientation}".encode())
    content.update(image.tobytes())
    return SafeImage(orientations.make_upright(flatten(image), orientation), content.hexdigest())


def digest(data: bytes) -> str:
    """The SHA-256 of an image's bytes in hexadecimal: the key of an image in every cache and record."""
    return hashlib.sha256(data).hexdigest()


def read_file(path: Path, *, max_bytes: int = MAX_UPLOAD_BYTES) -> bytes:
    """The first `max_bytes` + 1 bytes of a file. Raises `ImageError` if it cannot be read, or might be waited for."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ImageError(f"{path.name!r} is a pipe or a device, not a file. {SEND_SUPPORTED}")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ImageError(f"There is no file {path.name!r}. {SEND_SUPPORTED}") from None
    except IsADirectoryError:
        raise ImageError(f"{path.name!r} is a folder, not an image. {SEND_SUPPORTED}") from None
    except (OSError, ValueError):
        raise ImageError(f"The file {path.name!r} cannot be read. Check its permissions, or send another.") from None


def check_file_size(size: int, max_bytes: int) -> None:
    """Raise `ImageError` for an empty file, or one of more than `max_bytes`."""
    if not size:
        raise ImageError(f"The file is empty (0 bytes). {SEND_SUPPORTED}", detail="empty")
    if size > max_bytes:
        raise ImageError(
            f"The file is larger than {max_bytes / 1e6:g} MB, and at most {max_bytes / 1e6:g} MB are read. "
            "Send a smaller or more strongly compressed copy.",
            code="too_large",
            detail="bytes",
            values={"megabytes": max_bytes // 1_000_000},
        )
