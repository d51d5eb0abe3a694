"""The file that remembers: one line a picture and language, appended as soon as it is known, never lost.

A line that a crash tore is taken away, two jobs never write to one file, and what was done is found again by what it
depends on. Knows lines and disks; knows no model.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from blip_space.errors import UserError
from blip_space.inference.folder.record import Key, Record, parse


class Ledger:
    """Opened for one job; a context manager."""

    def __init__(self, path: Path) -> None:
        """`UserError` where the place cannot be written to, or another job writes there."""
        self.path = path
        self.known: dict[Key, Record] = {}
        """A captioned record for everything that was asked before."""

        self.lines: set[tuple[str, Key]] = set()
        """Which files have a line, for which question; errors are lines too."""

        self.failed: dict[tuple[str, Key], str] = {}
        """Of those, the errors."""

        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._file: io.FileIO | None = None

    def __enter__(self) -> Ledger:
        if not self.path.parent.is_dir():  # the lock would make it
            raise UserError(_unwritable(self.path, FileNotFoundError()))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"Another job writes to {self.path.name}. Wait for it, or name another --output.") from None
        except OSError as error:
            raise UserError(_unwritable(self.path, error)) from error
        try:
            self._file = io.FileIO(self.path, "a+")  # unbuffered: what did not fit must not be written at the end
        except OSError as error:
            self._lock.release()
            raise UserError(_unwritable(self.path, error)) from error
        self._mend()
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
        self._lock.release()

    def append(self, records: Sequence[Record]) -> None:
        """Write these lines and hand them to the system. `UserError` when the disk is full; nothing whole is lost."""
        assert self._file is not None
        start = self._file.seek(0, os.SEEK_END)
        try:
            rest = "".join(record.line() for record in records).encode()
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._cut(start)
            raise UserError(_unwritable(self.path, error)) from error
        for record in records:
            self._note(record)

    def keep_only(self, wanted: Callable[[Record], bool]) -> None:
        """Write the file anew with these lines alone, at once or not at all."""
        self._rewrite([record for record in self.records() if wanted(record)])

    def settle(self) -> None:
        """Of a picture that was changed since, the later line stays."""
        records = self.records()
        latest = {(record.file, record.key()[1:]): record for record in records}
        if len(latest) < len(records):
            self._rewrite(list(latest.values()))

    def records(self) -> list[Record]:
        """All lines that hold a record, in order."""
        with self.path.open("r", encoding="utf-8", errors="replace") as file:
            return [record for line in file if (record := parse(line))]

    def _rewrite(self, kept: Sequence[Record]) -> None:
        assert self._file is not None
        draft = self.path.with_name(f"{self.path.name}.draft")
        draft.write_bytes("".join(record.line() for record in kept).encode())
        self._file.close()
        draft.replace(self.path)
        self._file = io.FileIO(self.path, "a+")
        self.known, self.lines, self.failed = {}, set(), {}
        self._read()

    def _mend(self) -> None:
        """Take away what stands after the last whole line."""
        assert self._file is not None
        size = self._file.seek(0, os.SEEK_END)
        place = size
        while place:
            begin = max(0, place - 65_536)
            self._file.seek(begin)
            end = self._file.read(place - begin).rfind(b"\n")
            if end >= 0:
                place = begin + end + 1
                break
            place = begin
        if place < size:
            self._cut(place)

    def _cut(self, size: int) -> None:
        """Only so many bytes stay."""
        assert self._file is not None
        self._file.truncate(size)

    def _read(self) -> None:
        for record in self.records():
            self._note(record)

    def _note(self, record: Record) -> None:
        line = (record.file, record.key())
        self.lines.add(line)
        if record.error is not None:
            self.failed[line] = record.error
        else:
            self.failed.pop(line, None)
            self.known[record.key()] = record


def _unwritable(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk is full. Everything up to here stands in {path.name}; make room and start again to go on."
    if isinstance(error, FileNotFoundError):
        return f"There is no folder for {path.name}. Make it first, or name another --output."
    return f"{path.name} cannot be written. Check the permissions of its folder, or name another --output."
