"""What the soak does to its server: its engine ends, memory runs out, uploads are deleted, the disk fills up.

One after another, with time between them to recover.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.counts import Counts
from benchmarks.load.server import ServerProcess

FULL_SECONDS = 3.0
DISK_MEGABYTES = 2_500
"""Of the small file system: the server wants a gigabyte of it to stay free."""


class Failures:
    """Causes them in turn until it is stopped."""

    def __init__(self, server: ServerProcess, counts: Counts, *, small_disk: bool, interval: float) -> None:
        self._server, self._counts, self._interval = server, counts, interval
        self._actions: list[Callable[[], None]] = [self._end_engine, self._exhaust_memory, self._delete_uploads]
        if server.engine_pid is not None:
            self._actions.append(self._kill_engine)
        if small_disk:
            self._actions.append(self._fill_disk)

    def run(self, done: threading.Event) -> None:
        """Until `done`."""
        for act in itertools.cycle(self._actions):
            if done.wait(self._interval):
                return
            self._counts.failed_at = time.monotonic()
            act()
            self._counts.failed_at = time.monotonic()
            self._counts.add(f"failure: {act.__name__.strip('_').replace('_', ' ')}")

    def _end_engine(self) -> None:
        self._server.signal_engine(signal.SIGUSR1)

    def _exhaust_memory(self) -> None:
        self._server.signal_engine(signal.SIGUSR2)

    def _kill_engine(self) -> None:
        """End the engine's own process, which the server starts again."""
        if self._server.engine_pid is not None:
            self._server.signal_engine(signal.SIGKILL)

    def _delete_uploads(self) -> None:
        shutil.rmtree(self._server.uploads, ignore_errors=True)

    def _fill_disk(self) -> None:
        """Leave no byte for a while."""
        file = self._server.uploads.parent / "filling"
        try:
            with file.open("wb") as stream:
                while True:
                    stream.write(bytes(1_000_000))
        except OSError:
            time.sleep(FULL_SECONDS)
        finally:
            file.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A small file system in memory at the folder, where this user may mount one; whether it is there."""
    options = f"size={DISK_MEGABYTES}m"
    try:
        mounted = not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
