"""Files that survive a loss of power: what is synced, and in which order.

Depends on the operating system only. A test puts a disk in its place that forgets whatever was not synced.
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
    """An unbuffered file that takes all that it is given, or raises; what did not fit is not written at its end."""

    def write(self, content: Any) -> int:
        """All of the content; a full disk takes a part of it first, and raises `OSError` for the rest."""
        view = memoryview(content).cast("B")
        size = len(view)
        while view:
            view = view[super().write(view) or 0 :]
        return size


class Disk:
    """What the folder job asks of a file system beyond opening and reading."""

    def sync(self, file: io.FileIO) -> None:
        """Have everything that was written to the file on the disk."""
        os.fsync(file.fileno())

    def sync_folder(self, folder: Path) -> None:
        """Have new and renamed files of the folder on the disk, where its file system can."""
        with contextlib.suppress(OSError):  # Windows opens no folder, and some network disks sync none
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def sync_all(self) -> None:
        """Have everything on the disk that was written anywhere, for files too many to be synced one by one."""
        if hasattr(os, "sync"):  # Windows has none
            os.sync()

    def rename(self, old: Path, new: Path) -> None:
        """Put a file in the place of another."""
        old.replace(new)

    @contextlib.contextmanager
    def open_atomically(self, path: Path, *, synced: bool = True) -> Iterator[UnbufferedWriter]:
        """A file that is there once it is whole; whatever goes wrong leaves what was there, and no draft. Unless it is
        `synced`, a loss of power may leave it empty."""
        path = path.resolve()  # a link stays a link
        draft = draft_of(path)
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
        """Write a whole file; `OSError` where that fails. See `atomically`."""
        with self.open_atomically(path, synced=synced) as file:
            for chunk in chunks:
                file.write(chunk)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; not, too, where the name is too long for any (Python 3.11 raises for that)."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """The same of a file."""
    return os.path.isfile(path)  # noqa: PTH113


def draft_of(path: Path) -> Path:
    """Where the file is written before it is whole: a short hidden name, since the file's own may be of full length."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.draft")
