"""Writes files so that they survive a power failure, by syncing the right things in the right order.

Depends on the operating system only. Tests replace `Disk` with a class that loses everything that was not synced.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class UnbufferedWriter(io.FileIO):
    """An unbuffered file whose `write` either writes all of its content or raises."""

    def write(self, content: Any) -> int:
        """Write all of the content and return its size. If the disk is full, `OSError` is raised after a part of it."""
        view = memoryview(content).cast("B")
        size = len(view)
        while view:
            view = view[super().write(view) or 0 :]
        return size


class Disk:
    """What the folder job needs from the file system besides opening and reading: syncing, renaming, atomic writes."""

    def sync(self, file: io.FileIO) -> None:
        """Flush the content of a file to the disk."""
        os.fsync(file.fileno())

    def sync_folder(self, folder: Path) -> None:
        """Flush the names of new and renamed files of a folder to the disk, if the file system can."""
        with contextlib.suppress(OSError):  # Windows cannot open a folder; some network disks cannot sync one
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def sync_all(self) -> None:
        """Flush all files of the system to the disk. Used if there are too many to sync them one by one."""
        if hasattr(os, "sync"):  # not on Windows
            os.sync()

    def rename(self, old: Path, new: Path) -> None:
        """Rename the file `old` to `new`. If `new` exists, it is replaced."""
        old.replace(new)

    @contextlib.contextmanager
    def open_atomically(self, path: Path, *, synced: bool = True) -> Iterator[UnbufferedWriter]:
        """Write to a temporary file that replaces `path` when the block ends. After an error the old file stays and the
        temporary one is deleted. Without `synced`, a power failure may leave `path` empty."""
        path = path.resolve()  # so that the target of a symbolic link is replaced, not the link
        draft = draft_path(path)
        try:
            with UnbufferedWriter(draft, "w") as file:
                yield file
                if synced:
                    self.sync(file)
            if path.exists():
                shutil.copymode(path, draft)
            self.rename(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        if synced:
            self.sync_folder(path.parent)

    def write_atomically(self, path: Path, chunks: Iterable[bytes], *, synced: bool = True) -> None:
        """Write `chunks` to `path` completely or, with an `OSError`, not at all. See `open_atomically`."""
        with self.open_atomically(path, synced=synced) as file:
            for chunk in chunks:
                file.write(chunk)


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder. False if its name is too long, while `Path.is_dir` raises then in Python 3.11."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file. False if its name is too long; see `is_folder`."""
    return os.path.isfile(path)  # noqa: PTH113


def draft_path(path: Path) -> Path:
    """The hidden temporary file that is renamed to `path`. Its name is short, as that of `path` may be very long."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.draft")
