"""The decoder processes of this server, and the images that wait for one.

Started in the background or with the first image, and replaced if they end. Any thread may use a pool.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from blip_space.callers import Caller
from blip_space.images.decoder_messages import Resize, Task
from blip_space.images.decoder_process import PROGRAM, WAIT_SECONDS, Decoded, DecoderProcess
from blip_space.images.decoding_queue import DecodingQueue

TURN_SECONDS = 240.0
"""How long an image may wait for its turn, such as behind forty of the largest on a slow machine."""

MAX_SMALL = 6
MIN_PROCESSES = 2
"""For a small and a large image; further processes start when they are needed."""


def default_small() -> int:
    """How many small images are decoded at once: half the number of processors, but 1 to `MAX_SMALL`."""
    return min(MAX_SMALL, max(1, (os.cpu_count() or 1) // 2))


class DecoderPool:
    """Processes for small images, for a large one, and for small ones that turn out slow; at least two are kept."""

    def __init__(self, small: int | None = None, *, seconds: float = WAIT_SECONDS, program: str = PROGRAM) -> None:
        """`small` is how many small images are decoded at once, and `seconds` how long one may take by the clock.
        `program` replaces the processes' program in tests."""
        self.queue = DecodingQueue(small or default_small())
        self._kept, self._program = (small or default_small()) + 1, program
        self._seconds = seconds
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []
        self._busy: set[DecoderProcess] = set()

    def start(self) -> None:
        """Start the processes in the background, so that the first image need not wait for one."""
        threading.Thread(target=self._fill, name="decoder processes", daemon=True).start()

    def stop(self) -> None:
        """End the processes. An image that is being decoded is rejected; a later one starts a process again."""
        with self._lock:
            idle, self._idle = self._idle, []
            processes = [*idle, *self._busy]
        for process in processes:
            process.kill()

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes that are running."""
        with self._lock:
            return [process.pid for process in (*self._idle, *self._busy) if process.is_running]

    @contextmanager
    def open(
        self, read: Callable[[], bytes], caller: Caller, size: int, task: Task, resizes: Sequence[Resize] = ()
    ) -> Iterator[Decoded]:
        """Yields the decoded image of the file that `read` returns; its pixels are freed when the context ends. `size`
        is the memory that decoding takes. Raises `ImageError`, or `BusyError` if too many images wait."""
        with self.queue.admit(caller, size, seconds=TURN_SECONDS):
            with self._process() as process:
                decoded = process.decode(read(), task, resizes, seconds=self._seconds)
            try:
                yield decoded
            finally:
                for image in decoded.images:
                    image.close()

    @contextmanager
    def _process(self) -> Iterator[DecoderProcess]:
        process = self._take()
        try:
            yield process
        finally:
            with self._lock:
                self._busy.discard(process)
                is_kept = process.is_running and len(self._idle) < self._kept
                if is_kept:
                    self._idle.append(process)
            if not is_kept:
                process.kill()
                self.start()

    def _take(self) -> DecoderProcess:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_running:
                    self._busy.add(process)
                    return process
        process = DecoderProcess(self._program)
        with self._lock:
            self._busy.add(process)
        return process

    def _fill(self) -> None:
        with self._lock:
            missing = MIN_PROCESSES - len(self._idle) - len(self._busy)
            self._idle += [DecoderProcess(self._program) for _ in range(missing)]
