"""Which files of a folder this program wrote, and what it wrote: whatever differs is somebody's work.

Depends on files and digests; must not import anything that knows captions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from blip_space.errors import UserError
from blip_space.inference.folder.disk import Disk, WholeWriter, is_file, is_folder

NAME = ".blip-space.jsonl"
"""Lies in the folder, so that it moves with it."""

OURS = "ours"
"""In the place of a digest, for files that nobody edits and that would take minutes to read."""


@dataclass(frozen=True)
class Entry:
    """One writing of a file: its name relative to the folder, and the SHA-256 of its content. A text beside an image
    names that image, what was asked of it, and what stands around the caption."""

    file: str
    sha256: str
    image: str = ""
    language: str = ""
    prompt: str = ""
    prefix: str = ""
    suffix: str = ""


class WrittenFiles:
    """The list of a folder, read when it is made and appended to."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.folder = folder
        self.entries: dict[str, Entry] = {}
        """The last writing of each file."""

        self.disk = disk or Disk()
        self._path = folder / NAME
        self._digests: dict[str, set[str]] = {}
        for line in self._lines():
            self._note(line)

    def wrote(self, file: str, content: bytes) -> bool:
        """Whether that is something that we wrote there, now or before. A loss of power leaves such a file empty."""
        return file in self.entries and (not content or sha256(content) in self._digests[file])

    def add(self, entries: Sequence[Entry]) -> None:
        """Remember what will be written next; it is on the disk before, so that nothing of ours is ever taken for
        somebody's. `OSError` where the folder takes no file."""
        fresh = [entry for entry in entries if self.entries.get(entry.file) != entry]
        if not fresh:
            return
        is_new = not self._path.exists()
        with WholeWriter(self._path, "a") as file:
            file.write(b"".join(_line(entry) for entry in fresh))
            self.disk.sync(file)
        if is_new:
            self.disk.sync_folder(self.folder)
        for entry in fresh:
            self._note(entry)

    def replace(self, file: str, content: bytes) -> None:
        """Write a file of this folder whole or not at all, and remember it as ours. `OSError` where that fails."""
        self.add([Entry(file, sha256(content))])
        self.disk.write_atomically(self.folder / file, [content])

    def refuse(self, file: str, *, way_out: str, unless: Callable[[Path], bool]) -> None:
        """`UserError` where the file is there and holds what we did not write, `unless` that is of no loss."""
        path = self.folder / file
        if is_folder(path):
            raise UserError(f"{path.name} is a folder, and a file is to be written in its place. Rename it.")
        if not is_file(path) or self._is_large_and_ours(file) or self.wrote(file, path.read_bytes()):
            return
        if file in self.entries or not unless(path):
            what = "was changed since this command wrote it" if file in self.entries else "was there before"
            raise UserError(f"{path.name} {what}, and nothing of yours is written over. {way_out}")

    def _is_large_and_ours(self, file: str) -> bool:
        return file in self.entries and self.entries[file].sha256 == OURS

    def _lines(self) -> list[Entry]:
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return []
        return [entry for line in lines if (entry := _parse(line))]

    def _note(self, entry: Entry) -> None:
        self.entries[entry.file] = entry
        self._digests.setdefault(entry.file, set()).add(entry.sha256)


def sha256(content: bytes) -> str:
    """The digest by which a content is known again."""
    return hashlib.sha256(content).hexdigest()


def _line(entry: Entry) -> bytes:
    row = {name: value for name, value in asdict(entry).items() if value}
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _parse(line: bytes) -> Entry | None:
    try:
        entry = Entry(**json.loads(line))
    except (ValueError, TypeError):
        return None
    return entry if all(isinstance(value, str) for value in asdict(entry).values()) else None
