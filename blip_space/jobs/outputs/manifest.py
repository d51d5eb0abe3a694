"""Which files of one folder this program wrote, and what it wrote: whatever differs is somebody's work.

Depends on files and digests; must not import anything that knows captions.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from blip_space.errors import UserError
from blip_space.jobs.durable_files import Disk, UnbufferedWriter, is_file, is_folder
from blip_space.jobs.folder_listing import MANIFEST_NAME, locate

NAME = MANIFEST_NAME

FINISHED = b'{"finished": true}\n'
"""Everything before it is on the disk as it says."""

SIZE_PREFIX = "bytes:"
"""In the place of a digest, with the size behind it, for files that would take minutes to read."""


@dataclass(frozen=True)
class ManifestEntry:
    """One writing of a file: its name in the folder, and the SHA-256 of its content. A text beside an image names that
    image, its digest, what was asked of it, and what stands around the caption."""

    file: str
    sha256: str
    image: str = ""
    digest: str = ""
    language: str = ""
    prompt: str = ""
    prefix: str = ""
    suffix: str = ""


class Manifest:
    """The list of a folder, read when it is made and appended to."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        """`UserError` where there is a list that cannot be read, since then nobody knows what is whose."""
        self.folder = folder
        self.entries: dict[str, ManifestEntry] = {}
        """The last writing of each file."""

        self.disk = disk or Disk()
        self._path = folder / NAME
        self._known: dict[str, set[str]] = {}
        """What each file may hold of ours: what was written last, and while that is unfinished what was before."""

        self._unfinished = set[str]()
        self._images: dict[str, set[str]] = {}
        """Of which images there is a text with that content."""

        for line in self._lines():
            self._read(line)

    def is_ours(self, file: str, content: bytes) -> bool:
        """Whether that is what we wrote there last. An unfinished writing may have left what was there before, or,
        after a loss of power, nothing."""
        if file not in self.entries:
            return False
        return content_digest(content) in self._known[file] or (not content and file in self._unfinished)

    def is_text_for(self, digest: str, content: bytes) -> bool:
        """Whether we wrote that for the image of that digest, under whatever name."""
        return digest in self._images.get(content_digest(content), ())

    def is_text(self, content: bytes) -> bool:
        """Whether we wrote that for any image."""
        return content_digest(content) in self._images

    def add(self, entries: Sequence[ManifestEntry]) -> None:
        """Remember what will be written next; it is on the disk before, so that nothing of ours is ever taken for
        somebody's. `OSError` where the folder takes no file. Call `finish` once it is written."""
        fresh = [entry for entry in entries if self.entries.get(entry.file) != entry]
        if fresh:
            self._append(b"".join(_line(entry) for entry in fresh))
            for entry in fresh:
                self._note(entry)

    def finish(self) -> None:
        """What was added is written. A disk that takes no note of it leaves it unfinished, which costs nothing."""
        if self._unfinished:
            with suppress(OSError):
                self._append(FINISHED)
                self._note_finished()

    def replace(self, file: str, content: bytes) -> None:
        """Write a file of this folder whole or not at all, and remember it as ours. `OSError` where that fails."""
        self.add([ManifestEntry(file, content_digest(content))])
        self.disk.write_atomically(self.folder / file, [content])
        self.finish()

    def check_replaceable(self, file: str, *, way_out: str, unless: Callable[[Path], bool]) -> None:
        """`UserError` where the file is there and holds what we did not write, `unless` that is of no loss."""
        path = self.folder / file
        if not is_file(path):
            return
        try:
            if self._is_sized(file, path) or self.is_ours(file, path.read_bytes()):
                return
        except OSError:
            raise UserError(f"{path.name} cannot be read, so it stays as it is. Check its permissions.") from None
        if file in self.entries or not unless(path):
            what = "was changed since this command wrote it" if file in self.entries else "was there before"
            raise UserError(f"{path.name} {what}, and nothing of yours is written over. {way_out}")

    def _is_sized(self, file: str, path: Path) -> bool:
        entry = self.entries.get(file)
        return entry is not None and entry.sha256 == f"{SIZE_PREFIX}{path.stat().st_size}"

    def _lines(self) -> list[bytes]:
        try:
            return self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError:
            raise UserError(
                f"{NAME} of {self.folder.name!r} cannot be read, so nobody knows which files are yours. Check its "
                "permissions."
            ) from None

    def _read(self, line: bytes) -> None:
        if line == FINISHED:
            self._note_finished()
        elif entry := _parse(line):
            self._note(entry)

    def _note(self, entry: ManifestEntry) -> None:
        before = self._known.get(entry.file, set())
        self._known[entry.file] = {*before, entry.sha256}
        self.entries[entry.file] = entry
        self._unfinished.add(entry.file)
        if entry.digest:
            self._images.setdefault(entry.sha256, set()).add(entry.digest)

    def _note_finished(self) -> None:
        for file in self._unfinished:
            self._known[file] = {self.entries[file].sha256}
        self._unfinished.clear()

    def _append(self, content: bytes) -> None:
        is_new = not is_file(self._path)
        with UnbufferedWriter(self._path, "a+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            is_open_ended = file.read(1) not in (b"", b"\n")  # a crash left half a line
            try:
                file.write(b"\n" + content if is_open_ended else content)
            except OSError:
                file.truncate(size)
                raise
            self.disk.sync(file)
        if is_new:
            self.disk.sync_folder(self.folder)


class Manifests:
    """What was written in a folder and the folders in it, each of which keeps its own list."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()
        self._lists: dict[str, Manifest] = {}

    def at(self, file: str) -> Manifest:
        """The list of the folder in which the file lies. `UserError` where it cannot be read."""
        parent = str(PurePosixPath(file).parent)
        if parent not in self._lists:
            self._lists[parent] = Manifest(locate(self.root, parent), self.disk)
        return self._lists[parent]


def check_regular_file(path: Path) -> None:
    """`UserError` for a folder, a pipe or a device, in whose place no file is put."""
    if is_folder(path):
        raise UserError(f"{path.name or path} is a folder, and a file is to be written in its place. Name another.")
    if os.path.lexists(path) and not is_file(path) and not (path.is_symlink() and not path.exists()):
        raise UserError(f"{path.name} is no ordinary file, so nothing is written in its place. Name another.")


def content_digest(content: bytes) -> str:
    """The digest by which a content is known again, whether or not an editor ended its last line."""
    return hashlib.sha256(content.rstrip(b"\r\n")).hexdigest()


def _line(entry: ManifestEntry) -> bytes:
    row = {name: value for name, value in asdict(entry).items() if value}
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _parse(line: bytes) -> ManifestEntry | None:
    try:
        entry = ManifestEntry(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    return entry if all(isinstance(value, str) for value in asdict(entry).values()) else None
