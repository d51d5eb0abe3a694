"""Files that survive a power failure: what is synced, and in which order.

Depends on the operating system only. Tests replace `Disk` with one that loses whatever was not synced.
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
    """An unbuffered file whose `write` is complete or raises."""

    def write(self, content: Any) -> int:
        """Write all of the content. On a full disk a part of it is written before `OSError` is raised."""
        view = memoryview(content).cast("B")
        size = len(view)
        while view:
            view = view[super().write(view) or 0 :]
        return size


class Disk:
    """What the folder job needs of a file system beyond opening and reading."""

    def sync(self, file: io.FileIO) -> None:
        """Flush a file to the disk."""
        os.fsync(file.fileno())

    def sync_folder(self, folder: Path) -> None:
        """Flush the names of new and renamed files to the disk, where the file system can."""
        with contextlib.suppress(OSError):  # Windows cannot open a folder; some network disks cannot sync one
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def sync_all(self) -> None:
        """Flush all files of the system, for files too many to be synced one by one."""
        if hasattr(os, "sync"):  # not on Windows
            os.sync()

    def rename(self, old: Path, new: Path) -> None:
        """Replace a file by another."""
        old.replace(new)

    @contextlib.contextmanager
    def open_atomically(self, path: Path, *, synced: bool = True) -> Iterator[UnbufferedWriter]:
        """A file that replaces `path` at the end of the block; an error leaves the old file, and no draft. Unless
        `synced`, a power failure may leave it empty."""
        path = path.resolve()  # keep a symbolic link
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
        """Write a file at once or not at all; `OSError` where that fails. See `open_atomically`."""
        with self.open_atomically(path, synced=synced) as file:
            for chunk in chunks:
                file.write(chunk)


def is_folder(path: Path) -> bool:
    """Whether the folder exists; False also for a name that is too long, for which `Path` raises in Python 3.11."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Whether the file exists; see `is_folder`."""
    return os.path.isfile(path)  # noqa: PTH113


def draft_path(path: Path) -> Path:
    """The hidden file that is renamed when it is complete. Its name is short: the file's may have full length."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.draft")
