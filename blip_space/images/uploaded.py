"""An image that somebody else sent to this server: decoded in a process that can be ended, and never in this one.

The processes are this process's own, whichever it is, so an uploaded image can be sent to another process or machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from blip_space.images import ImageFile, SafeImage
from blip_space.images.decoder_messages import Resize, Task
from blip_space.images.decoder_pool import DecoderPool
from blip_space.images.decoding_queue import UNKNOWN, Caller

POOL = DecoderPool()
current_caller: ContextVar[Caller] = ContextVar("current_caller", default=UNKNOWN)
"""The caller whose event is being handled, set by the app."""


@dataclass(frozen=True, eq=False)
class UploadedImageFile(ImageFile):
    """The bytes of an uploaded image, and who sent it."""

    caller: Caller = field(default_factory=current_caller.get)

    @contextmanager
    def open(self, resize: Resize | None = None) -> Iterator[SafeImage]:
        """As `ImageFile.open`, but resized already if `resize` is given. Raises `BusyError` too, if many images wait."""
        self.check_size()
        with POOL.open(self.data, self.caller, Task.RESIZE if resize else Task.DECODE, resize) as decoded:
            yield SafeImage(decoded.pixels, self.digest, decoded.size)

    def check(self) -> None:
        """As `ImageFile.check`."""
        self.check_size()
        with POOL.open(self.data, self.caller, Task.CHECK):
            pass
