"""A file to which complete lines are appended. It is locked against other jobs, and a rewrite of it is atomic.

Depends on durable_files only; must not interpret the content of a line.
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
"""The longest time before an appended line is synced to the disk."""

BOM = b"\xef\xbb\xbf"


class LogFile:
    """An open file of lines. It is locked until `close`, so that only one job at a time writes to it."""

    def __init__(self, path: Path, disk: Disk) -> None:
        """Open and lock `path`. `UserError` if it cannot be written, or if another job has locked it."""
        self.path = path.resolve()  # so that `rewrite` replaces the target of a symbolic link, not the link
        self._disk = disk
        self._mutex = threading.Lock()
        self._timer: threading.Timer | None = None
        self._sync_error: OSError | None = None
        self._lacks_line_end = False
        if is_folder(self.path):
            raise UserError(f"{self.path.name or self.path} is a folder. Name a file with --output.")
        if not is_folder(self.path.parent):  # the lock would create it
            raise UserError(write_error_message(self.path, FileNotFoundError()))
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"Another job writes to {self.path.name}. Wait for it, or name another --output.") from None
        except OSError as error:
            raise UserError(write_error_message(self.path, error)) from error
        try:
            self._file = self._open_for_append()
        except OSError as error:
            self._lock.release()
            raise UserError(write_error_message(self.path, error)) from error

    def close(self) -> None:
        """Sync, close and unlock the file. `UserError` if the last lines could not be written to the disk."""
        try:
            self.sync()
        finally:
            self._file.close()
            self._lock.release()

    def lines(self) -> Iterator[bytes]:
        """Every line of the file with its line end. If an editor added a byte order mark, it is left out."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                complete = line if line.endswith(b"\n") else line + b"\n"
                yield complete if number else complete.removeprefix(BOM)

    def append(self, content: bytes) -> None:
        """Append complete lines; synced within `SYNC_SECONDS`. `UserError` if the disk is full; then none is added."""
        with self._mutex:
            start = self._file.seek(0, os.SEEK_END)
            try:
                self._raise_late_error()
                self._file.write(b"\n" + content if self._lacks_line_end else content)
                self._lacks_line_end = False
            except OSError as error:
                self._file.truncate(start)
                raise UserError(write_error_message(self.path, error)) from error
            if self._timer is None:
                self._timer = threading.Timer(SYNC_SECONDS, self._sync_later)
                self._timer.daemon = True
                self._timer.start()

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replace all lines of the file atomically. `UserError` if that fails; the file is then unchanged."""
        with self._mutex:
            self._stop_timer()
            try:
                self._disk.write_atomically(self.path, lines)
            except OSError as error:
                raise UserError(write_error_message(self.path, error)) from error
            self._file.close()
            self._file = self._open_for_append()
            self._lacks_line_end = False

    def sync(self) -> None:
        """Sync all lines to the disk. `UserError` if that fails, or if an earlier sync in the background failed."""
        with self._mutex:
            self._stop_timer()
            try:
                self._raise_late_error()
                self._disk.sync(self._file)
            except OSError as error:
                raise UserError(write_error_message(self.path, error)) from error

    def drop_partial_line(self, is_partial: Callable[[bytes], bool]) -> None:
        """If the last line has no line end, remove it if it `is_partial`, else complete it at the next `append`."""
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
        self._lacks_line_end = bool(tail) and not is_partial(tail)
        if tail and not self._lacks_line_end:
            self._file.truncate(end)

    def _open_for_append(self) -> UnbufferedWriter:
        is_new = not is_file(self.path)
        file = UnbufferedWriter(self.path, "a+")
        if is_new:
            self._disk.sync_folder(self.path.parent)
        return file

    def _sync_later(self) -> None:
        with self._mutex:
            if self._timer is None:
                return  # stopped while this waited for the lock
            self._timer = None
            handle = os.dup(self._file.fileno())
        try:  # without the lock, so that a slow disk does not delay `append`
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


def write_error_message(path: Path, error: OSError) -> str:
    """The message for users that says why `path` cannot be written, and what to do."""
    name = path.name
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full. All captions so far are in {name}; free some space and run the same command to resume."
        )
    if error.errno == errno.EFBIG:
        return f"{name} has reached the largest file size that this disk allows. Name another --output for the rest."
    if isinstance(error, FileNotFoundError):
        return f"There is no folder for {name}. Create it first, or name another --output."
    if error.errno == errno.ENAMETOOLONG:
        return f"The name {name[:40]}… is too long for this disk. Name a shorter --output."
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
        return f"{name} is on a disk that cannot lock files, like some network disks. Name an --output on another disk."
    if error.errno == errno.EROFS:
        return f"{name} is on a read-only disk. Name an --output on another disk."
    return (
        f"{name} cannot be written. Check the permissions of its folder, of the file and of .{name}.lock, or name "
        "another --output."
    )
