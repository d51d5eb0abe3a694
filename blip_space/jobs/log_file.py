"""A file that grows by whole lines: locked against other jobs, synced in groups, written again at once or not at all.

Depends on lines and disks; must not import anything that knows what a line says.
"""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from blip_space.errors import UserError
from blip_space.jobs.durable_files import Disk, UnbufferedWriter, is_file, is_folder

SYNC_SECONDS = 1.0
"""Lines are on the disk after so long at most."""

BOM = b"\xef\xbb\xbf"


class LogFile:
    """Opened for one job, which closes it."""

    def __init__(self, path: Path, disk: Disk) -> None:
        """`UserError` where the place cannot be written to, or another job writes there."""
        self.path = path.resolve()  # a linked output stays a link
        self._disk = disk
        self._guard = threading.Lock()
        self._timer: threading.Timer | None = None
        self._sync_error: OSError | None = None
        self._is_open_ended = False
        if is_folder(self.path):
            raise UserError(f"{self.path.name or self.path} is a folder. Name a file with --output.")
        if not is_folder(self.path.parent):  # the lock would make it
            raise UserError(unwritable(self.path, FileNotFoundError()))
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"Another job writes to {self.path.name}. Wait for it, or name another --output.") from None
        except OSError as error:
            raise UserError(unwritable(self.path, error)) from error
        try:
            self._file = self._opened()
        except OSError as error:
            self._lock.release()
            raise UserError(unwritable(self.path, error)) from error

    def close(self) -> None:
        """Let the next job have it. `UserError` where the disk did not take the last lines."""
        try:
            self.sync()
        finally:
            self._file.close()
            self._lock.release()

    def lines(self) -> Iterator[bytes]:
        """Every line, its end included, without the mark that an editor may have put at the beginning."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                whole = line if line.endswith(b"\n") else line + b"\n"
                yield whole if number else whole.removeprefix(BOM)

    def append(self, content: bytes) -> None:
        """Hand whole lines to the system, which has them on the disk `SYNC_SECONDS` later. `UserError` when the disk
        is full; then nothing of them is there."""
        with self._guard:
            start = self._file.seek(0, os.SEEK_END)
            try:
                self._raise_late_error()
                self._file.write(b"\n" + content if self._is_open_ended else content)
                self._is_open_ended = False
            except OSError as error:
                self._file.truncate(start)
                raise UserError(unwritable(self.path, error)) from error
            if self._timer is None:
                self._timer = threading.Timer(SYNC_SECONDS, self._sync_in_time)
                self._timer.daemon = True
                self._timer.start()

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Have these lines in place of all others. `UserError` leaves the file as it was."""
        with self._guard:
            self._stop_timer()
            try:
                self._disk.write_atomically(self.path, lines)
            except OSError as error:
                raise UserError(unwritable(self.path, error)) from error
            self._file.close()
            self._file = self._opened()
            self._is_open_ended = False

    def sync(self) -> None:
        """Have all lines on the disk. `UserError` where it does not take them."""
        with self._guard:
            self._stop_timer()
            try:
                self._raise_late_error()
                self._disk.sync(self._file)
            except OSError as error:
                raise UserError(unwritable(self.path, error)) from error

    def drop_partial_line(self, is_partial: Callable[[bytes], bool]) -> None:
        """Take away what stands after the last whole line; where it is not partial, the next line begins after it."""
        size = end = self._file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - 65_536)
            self._file.seek(begin)
            newline = self._file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        self._file.seek(end)
        tail = self._file.read(size - end)
        self._is_open_ended = bool(tail) and not is_partial(tail)
        if tail and not self._is_open_ended:
            self._file.truncate(end)

    def _opened(self) -> UnbufferedWriter:
        is_new = not is_file(self.path)
        file = UnbufferedWriter(self.path, "a+")
        if is_new:
            self._disk.sync_folder(self.path.parent)
        return file

    def _sync_in_time(self) -> None:
        with self._guard:
            if self._timer is None:
                return  # stopped while it waited
            self._timer = None
            handle = os.dup(self._file.fileno())
        try:  # without the guard, so that lines are appended while the disk is slow
            with io.FileIO(handle, "r") as file:
                self._disk.sync(file)
        except OSError as error:
            self._sync_error = error

    def _raise_late_error(self) -> None:
        error, self._sync_error = self._sync_error, None
        if error:
            raise error

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def unwritable(path: Path, error: OSError) -> str:
    """Why a file cannot be written, in a sentence with the way out."""
    name = path.name
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full. Everything up to here stands in {name}; make room and start again to go on."
    if error.errno == errno.EFBIG:
        return f"The disk takes no larger file than {name} is by now. Name another --output for the rest."
    if isinstance(error, FileNotFoundError):
        return f"There is no folder for {name}. Make it first, or name another --output."
    if error.errno == errno.ENAMETOOLONG:
        return f"The name {name[:40]}… is too long for this disk. Name a shorter --output."
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
        return f"The disk of {name} locks no files, as some network disks do. Name an --output on another disk."
    if error.errno == errno.EROFS:
        return f"The disk of {name} is read-only. Name an --output on another one."
    return (
        f"{name} cannot be written. Check the permissions of its folder, its own and those of .{name}.lock, or name "
        "another --output."
    )
