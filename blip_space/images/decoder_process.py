"""One decoder process, from the side of the server: started, sent files, and ended if it takes too long.

A process of its own is the only way to end a decoder, which is C code; a crash of it ends no other answer either.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image

from blip_space.errors import ImageError
from blip_space.images.decoder import MAX_PIXELS
from blip_space.images.decoder_messages import (
    DECODE_SECONDS,
    READY,
    Outcome,
    Resize,
    Task,
    pack_request,
    read_exactly,
    read_pixels,
    read_reply,
    unpack_error,
)

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""Within this time a new process must have imported its modules, on however busy a machine."""

WAIT_SECONDS = 30.0
"""How long an image may take by the clock: longer than `DECODE_SECONDS`, since a busy machine gives it less time."""

SIGXCPU = -24
"""The exit code of a process that the system ended for its use of the processor, on Linux and macOS."""

TOO_SLOW = (
    f"The image took more than {DECODE_SECONDS} s to decode, so that was stopped. Save it again as a plain JPEG or "
    "PNG, or send a smaller copy."
)
CRASHED = (
    "The image ended the process that decodes images, as a damaged file or too little memory may. Save it again as a "
    "plain JPEG or PNG."
)
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from blip_space.images.decoder_main import main; main()"
ROOT = Path(__file__).resolve().parent.parent.parent


class Decoded:
    """What a process made of a file: the image's size, and the image itself or what each resize made of it; none if it
    was only checked."""

    def __init__(self, size: tuple[int, int], images: tuple[Image.Image, ...]) -> None:
        self.size, self.images = size, images


class DecoderProcess:
    """A running process, which one thread at a time may use."""

    def __init__(self, program: str = PROGRAM) -> None:
        """Start the process, without waiting for it. `program` replaces its program in tests."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # C libraries print what they like there
            start_new_session=True,  # Ctrl-C is for the server
        )
        self._requests = cast(BinaryIO, self._process.stdin)
        self._replies = cast(BinaryIO, self._process.stdout)
        self._is_ready = self._has_expired = False

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process can decode another file."""
        return not self._has_expired and self._process.poll() is None

    def decode(self, data: bytes, task: Task, resizes: Sequence[Resize], *, seconds: float) -> Decoded:
        """Decode a file. Raises `ImageError` if that fails, takes longer than `seconds` or ends the process."""
        try:
            self._wait_until_ready()
            with self._killed_after(seconds):
                self._requests.write(pack_request(len(data), task, resizes))
                self._requests.write(data)
                self._requests.flush()
                result = self._read(task, resizes)
        except (OSError, EOFError, ValueError):
            self.kill()
            code = self._process.returncode
            log.warning("a decoder process ended with exit code %s", code)
            if self._has_expired or code == SIGXCPU:
                raise ImageError(TOO_SLOW, code="timed_out") from None
            raise ImageError(CRASHED) from None
        except BaseException:  # such as an interrupt, which leaves the rest of the reply unread
            self.kill()
            raise
        if isinstance(result, Exception):
            raise result
        return result

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._replies):
            with suppress(OSError):  # what was not written yet is lost
                pipe.close()

    def _wait_until_ready(self) -> None:
        if not self._is_ready:
            with self._killed_after(START_SECONDS):
                self._is_ready = read_exactly(self._replies, len(READY)) == READY

    def _read(self, task: Task, resizes: Sequence[Resize]) -> Decoded | Exception:
        reply = read_reply(self._replies)
        if reply.outcome != Outcome.DECODED:
            sentence = read_exactly(self._replies, reply.sentence_bytes).decode("utf-8", "replace")
            if reply.outcome == Outcome.FAILED:
                return RuntimeError(f"a decoder process failed: {sentence}")
            return unpack_error(sentence)
        if reply.size[0] * reply.size[1] > MAX_PIXELS:
            raise ValueError("more pixels than an image may have")
        sizes = {Task.DECODE: [reply.size], Task.RESIZE: [resize.size for resize in resizes], Task.CHECK: []}[task]
        return Decoded(reply.size, tuple(read_pixels(self._replies, size) for size in sizes))

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """End the process if the context does not end within that time."""
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._has_expired = True
        self._process.kill()
