"""An image that somebody else sent to this server: decoded in a process that can be ended, and never in this one.

The processes are this process's own, whichever it is, so an uploaded image can be sent to another process, and with its
bytes to another machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from blip_space.callers import Caller, current_caller
from blip_space.errors import ImageError
from blip_space.images import MAX_UPLOAD_BYTES, ImageFile, SafeImage, check_file_size, digest, read_file
from blip_space.images.decoder_messages import Resize, Task
from blip_space.images.decoder_pool import DecoderPool
from blip_space.images.estimates import estimate_decoding_bytes

DELETED = "This upload is not on the server any more. Send the image again."
POOL = DecoderPool()
READING = threading.BoundedSemaphore(2)
"""How many files are hashed at once, since each is in memory for that."""


Check = Callable[["UploadedImageFile"], None]

_check_elsewhere: Check | None = None


def check_by(check: Check | None) -> None:
    """Check images by a function that asks the process which decodes them, so that a server has one pool and one limit;
    None to decode in this process's own."""
    global _check_elsewhere
    _check_elsewhere = check


class UploadedImageFile(ImageFile):
    """An uploaded image, as the path of its file or as bytes, and who sent it.

    A path is read only to hash the file and in its turn to be decoded, so waiting images take no memory.
    """

    def __init__(
        self, source: Path | bytes, *, caller: Caller | None = None, max_bytes: int = MAX_UPLOAD_BYTES
    ) -> None:
        """The caller is that of the current event unless it is given. Raises `ImageError` if there is no file."""
        values = vars(self)  # the class is frozen
        values |= {"source": source, "max_bytes": max_bytes, "caller": caller or current_caller.get()}
        with READING:
            data = self.data
            values |= {"digest": digest(data), "file_bytes": len(data), "decoding_bytes": estimate_decoding_bytes(data)}

    source: Path | bytes
    caller: Caller
    file_bytes: int
    decoding_bytes: int

    @property
    def data(self) -> bytes:
        """The bytes of the file, of which those beyond the limit are not read. Raises `ImageError`."""
        if isinstance(self.source, bytes):
            return self.source
        if not self.source.exists():
            raise ImageError(DELETED, code="not_uploaded")
        return read_file(self.source, max_bytes=self.max_bytes)

    @contextmanager
    def open(self, resizes: Sequence[Resize] = ()) -> Iterator[SafeImage]:
        """As `ImageFile.open`, but resized already if `resizes` are given. Raises `BusyError` if too many wait."""
        task = Task.RESIZE if resizes else Task.DECODE
        check_file_size(self.file_bytes, self.max_bytes)
        with POOL.open(lambda: self.data, self.caller, self.decoding_bytes, task, resizes) as decoded:
            first, *_ = decoded.images
            yield SafeImage(first, self.digest, decoded.size, decoded.images if resizes else ())

    def check(self) -> None:
        """As `ImageFile.check`."""
        check_file_size(self.file_bytes, self.max_bytes)
        if _check_elsewhere is not None:
            _check_elsewhere(self)
            return
        with POOL.open(lambda: self.data, self.caller, self.decoding_bytes, Task.CHECK):
            pass

    def with_bytes(self) -> UploadedImageFile:
        """The same image with the bytes of its file, for another machine."""
        return UploadedImageFile(self.data, caller=self.caller, max_bytes=self.max_bytes)
