"""The uploads on the disk: how many bytes each caller has there, and which are deleted when there is no room for more.

Gradio limits the size of one file, and deletes old files while it runs. It limits neither the number of files nor what
they take together, and does not delete those of a server that was killed. Depends on the file system only.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

MAX_AGE_SECONDS = 82_800
"""Uploads older than this are deleted at the next cleanup, so within the 24 hours that the page promises."""

MIN_AGE_SECONDS = 600
"""Younger uploads are never deleted for others: somebody may be about to use them."""

PARTIAL_SECONDS = 3_600
"""Temporary files older than this belong to no upload any more, as an upload ends long before."""

RETRY_SECONDS = 5
"""How long nothing is deleted for a caller after nothing was found to delete."""


@dataclass(frozen=True)
class Limits:
    """How much may be stored: for one caller and in all, and what stays free on the disk. A request is the unit that
    arrives at once."""

    request_bytes: int = 500_000_000
    request_files: int = 500
    caller_bytes: int = 1_000_000_000
    caller_files: int = 2_000
    total_bytes: int = 20_000_000_000
    total_files: int = 100_000
    free_bytes: int = 1_000_000_000


LIMITS = Limits()


class Shortage(Enum):
    """Which limit leaves no room: that of one caller, or that of the disk."""

    CALLER = "caller"
    DISK = "disk"


@dataclass
class Upload:
    """A request that brings files: how many bytes and files of `owner` have arrived so far."""

    owner: str
    size: int = 0
    files: int = 0


@dataclass(frozen=True)
class _StoredFile:
    owner: str
    size: int
    stored_at: float


_in_use: Counter[Path] = Counter()
_in_use_lock = threading.Lock()


@contextmanager
def in_use(paths: Iterable[Path]) -> Iterator[None]:
    """Keep these uploads until the context ends, however little room there is."""
    kept = Counter(paths)
    with _in_use_lock:
        _in_use.update(kept)
    try:
        yield
    finally:
        with _in_use_lock:
            _in_use.subtract(kept)
            for path in kept:
                if not _in_use[path]:
                    del _in_use[path]


def delete_expired(folder: Path, *, max_age_seconds: float) -> None:
    """Delete files in `folder` older than `max_age_seconds`. A running server deletes its own before that age."""
    expired_before = time.time() - max_age_seconds
    for file in folder.rglob("*"):
        try:
            if file.is_file() and file.stat().st_mtime < expired_before:
                file.unlink()
        except OSError:  # another server deleted it first
            continue


class UploadStorage:
    """The folder of uploads, and what each caller has in it. May be used by any thread."""

    def __init__(self, folder: Path, limits: Limits = LIMITS, *, clock: Callable[[], float] = time.time) -> None:
        self.limits = limits
        self._folder, self._clock = folder, clock
        self._lock, self._sweeping = threading.RLock(), threading.Lock()
        self._files: dict[Path, _StoredFile] = {}
        self._bytes: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        """What each caller has, with what is arriving. Files of unknown callers belong to the empty name."""

        self._total_bytes = self._total_files = 0
        self._leftovers: deque[tuple[float, Upload]] = deque()
        """What arrived and was not stored under a name, and until when it may be on the disk."""

        self._retry_at: dict[str, float] = {}
        self._scan()

    def shortage(self, owner: str) -> Shortage | None:
        """What leaves no room for more files of this caller, if anything does."""
        limits = self.limits
        with self._lock:
            if self._bytes[owner] > limits.caller_bytes or self._counts[owner] > limits.caller_files:
                return Shortage.CALLER
            if self._total_bytes > limits.total_bytes or self._total_files > limits.total_files:
                return Shortage.DISK
        return Shortage.DISK if self._free_bytes() < limits.free_bytes else None

    def add(self, upload: Upload, size: int, files: int) -> None:
        """Count what has arrived of an upload."""
        with self._lock:
            upload.size += size
            upload.files += files
            self._count(upload.owner, size, files)

    def keep(self, upload: Upload, paths: Iterable[Path]) -> bool:
        """Count the files that an upload was stored as in place of what has arrived; whether all of them are there."""
        is_complete = True
        for path in paths:
            try:
                size = path.stat().st_size
            except OSError:
                is_complete = False
                continue
            with self._lock:
                self._remove(path)
                self._files[path] = _StoredFile(upload.owner, size, self._clock())
                arrived, files = min(size, upload.size), min(1, upload.files)
                upload.size, upload.files = upload.size - arrived, upload.files - files
                self._count(upload.owner, size - arrived, 1 - files)
        return is_complete

    def end(self, upload: Upload, *, is_deleted: bool) -> None:
        """Forget an upload whose files are deleted, and keep counting for a while what was not stored of another."""
        with self._lock:
            if is_deleted:
                self._count(upload.owner, -upload.size, -upload.files)
            elif upload.size or upload.files:
                self._leftovers.append((self._clock() + PARTIAL_SECONDS, upload))

    def sweep(self, owner: str) -> None:
        """Delete what has expired, and then the oldest uploads while there is no room for this caller: its own if it
        has too much, else those of the caller that has most."""
        with self._sweeping:
            shortage = self.shortage(owner)
            key = owner if shortage is Shortage.CALLER else ""
            if shortage is None or self._clock() < self._retry_at.get(key, 0):
                return
            self._scan()
            deletable = self._deletable()
            while shortage := self.shortage(owner):
                most = max(deletable, key=lambda name: self._bytes[name], default="")
                paths = deletable.get(owner if shortage is Shortage.CALLER else most)
                if not paths:
                    self._retry_at[key] = self._clock() + RETRY_SECONDS
                    break
                self._delete(paths.popleft())
                deletable = {name: left for name, left in deletable.items() if left}

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self._folder).free
        except FileNotFoundError:  # programs that clean temporary folders delete it
            self._folder.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self._folder).free

    def _scan(self) -> None:
        """Delete what has expired, and count what is in the folder: others delete files there, and Gradio adds some."""
        now = self._clock()
        self._folder.mkdir(parents=True, exist_ok=True)
        delete_expired(self._folder, max_age_seconds=MAX_AGE_SECONDS)
        found: dict[Path, _StoredFile] = {}
        for path in self._folder.rglob("*"):
            try:
                status, is_folder = path.stat(), path.is_dir()
                is_old = status.st_mtime < now - PARTIAL_SECONDS
                if is_folder and is_old:
                    path.rmdir()  # fails if it has files
                elif not is_folder and path.parent != self._folder:
                    found[path] = _StoredFile("", status.st_size, status.st_mtime)
                elif not is_folder and is_old:
                    path.unlink()
            except OSError:  # or deleted meanwhile
                continue
        with self._lock:
            for path in self._files.keys() - found.keys():
                if not path.exists():  # it may have been stored meanwhile
                    self._remove(path)
            for path in found.keys() - self._files.keys():
                self._files[path] = found[path]
                self._count("", found[path].size, 1)
            while self._leftovers and self._leftovers[0][0] < now:
                _, upload = self._leftovers.popleft()
                self._count(upload.owner, -upload.size, -upload.files)
            self._retry_at = {key: time for key, time in self._retry_at.items() if time > now}

    def _deletable(self) -> dict[str, deque[Path]]:
        """The uploads of each caller that may be deleted, the oldest first."""
        stored_before = self._clock() - MIN_AGE_SECONDS
        with self._lock:
            old = [(path, file) for path, file in self._files.items() if file.stored_at < stored_before]
        by_owner: dict[str, deque[Path]] = {}
        for path, file in sorted(old, key=lambda pair: pair[1].stored_at):
            if path not in _in_use:
                by_owner.setdefault(file.owner, deque()).append(path)
        return by_owner

    def _delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with self._lock:
            self._remove(path)

    def _remove(self, path: Path) -> None:
        if file := self._files.pop(path, None):
            self._count(file.owner, -file.size, -1)

    def _count(self, owner: str, size: int, files: int) -> None:
        self._bytes[owner] += size
        self._counts[owner] += files
        self._total_bytes += size
        self._total_files += files
        if not self._bytes[owner] and not self._counts[owner]:
            del self._bytes[owner], self._counts[owner]
