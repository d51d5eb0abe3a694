"""The manifest of a folder lists the files that this program wrote, with their digests. A file that is not listed, or
has another digest, is a user's. Depends on files and digests; must not import anything that knows captions.
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

FINISHED = b'{"finished": true}\n'
"""A line of the manifest which says that the files of all entries before it have been written."""

SIZE_PREFIX = "bytes:"
"""Begins the `sha256` of an entry that has the size instead, for files that would take minutes to read."""


@dataclass(frozen=True)
class ManifestEntry:
    """A file that this program wrote: its name in the folder, and the SHA-256 of its content. The entry of a text file
    also has its image's name and digest, its language and prompt, and the texts before and after the caption."""

    file: str
    sha256: str
    image: str = ""
    digest: str = ""
    language: str = ""
    prompt: str = ""
    prefix: str = ""
    suffix: str = ""


class Manifest:
    """The manifest of a folder. It is read once; after that, entries are only appended."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        """`UserError` if the manifest exists and cannot be read, since it is then unknown which files are a user's."""
        self.folder = folder
        self.entries: dict[str, ManifestEntry] = {}
        """The last entry of each file, by the file's name."""

        self.disk = disk or Disk()
        self._path = folder / MANIFEST_NAME
        self._own_digests: dict[str, set[str]] = {}
        """The digests that a file of ours may have: that of its last entry and, until `finish`, of the one before."""

        self._unfinished = set[str]()
        self._images_by_text: dict[str, set[str]] = {}
        """For the digest of each text that we wrote: the digests of the images for which we wrote it."""

        for line in self._lines():
            self._read(line)

    def is_ours(self, file: str, content: bytes) -> bool:
        """Whether `content` is what we last wrote to `file`. An unfinished write may also have left the old content or,
        after a power failure, an empty file."""
        if file not in self.entries:
            return False
        return content_digest(content) in self._own_digests[file] or (not content and file in self._unfinished)

    def is_text_for(self, digest: str, content: bytes) -> bool:
        """Whether we wrote the text `content` for the image that has `digest`, whatever the names of both were."""
        return digest in self._images_by_text.get(content_digest(content), ())

    def is_text(self, content: bytes) -> bool:
        """Whether we wrote the text `content` for any image."""
        return content_digest(content) in self._images_by_text

    def add(self, entries: Sequence[ManifestEntry]) -> None:
        """Add entries to the manifest and sync it, or raise `OSError`. Call this before writing their files, or a crash
        could make one look like a user's; call `finish` afterwards."""
        new = [entry for entry in entries if self.entries.get(entry.file) != entry]
        if new:
            self._append(b"".join(_to_line(entry) for entry in new))
            for entry in new:
                self._index(entry)

    def finish(self) -> None:
        """Mark the files of all added entries as written. An error is ignored; `is_ours` then accepts more."""
        if self._unfinished:
            with suppress(OSError):
                self._append(FINISHED)
                self._mark_finished()

    def replace(self, file: str, content: bytes) -> None:
        """Write a file of this folder atomically, and its entry. `OSError` if that fails."""
        self.add([ManifestEntry(file, content_digest(content))])
        self.disk.write_atomically(self.folder / file, [content])
        self.finish()

    def check_replaceable(self, file: str, *, way_out: str, unless: Callable[[Path], bool]) -> None:
        """`UserError` if the file's content is a user's. If it has no entry, `unless(path)` may allow to replace it."""
        path = self.folder / file
        if not is_file(path):
            return
        entry = self.entries.get(file)
        try:
            has_listed_size = entry is not None and entry.sha256 == f"{SIZE_PREFIX}{path.stat().st_size}"
            if has_listed_size or self.is_ours(file, path.read_bytes()):
                return
        except OSError:
            raise UserError(f"{path.name} cannot be read, so it stays as it is. Check its permissions.") from None
        if entry or not unless(path):
            what = "was changed since this command wrote it" if entry else "was not written by this command"
            raise UserError(f"{path.name} {what}, and your own files are not overwritten. {way_out}")

    def _lines(self) -> list[bytes]:
        try:
            return self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError:
            raise UserError(
                f"{MANIFEST_NAME} of {self.folder.name!r} cannot be read, so it is unknown which files are yours. "
                "Check its permissions."
            ) from None

    def _read(self, line: bytes) -> None:
        if line == FINISHED:
            self._mark_finished()
        elif entry := _parse_entry(line):
            self._index(entry)

    def _index(self, entry: ManifestEntry) -> None:
        previous = self._own_digests.get(entry.file, set())
        self._own_digests[entry.file] = {*previous, entry.sha256}
        self.entries[entry.file] = entry
        self._unfinished.add(entry.file)
        if entry.digest:
            self._images_by_text.setdefault(entry.sha256, set()).add(entry.digest)

    def _mark_finished(self) -> None:
        for file in self._unfinished:
            self._own_digests[file] = {self.entries[file].sha256}
        self._unfinished.clear()

    def _append(self, content: bytes) -> None:
        is_new = not is_file(self._path)
        with UnbufferedWriter(self._path, "a+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            lacks_line_end = file.read(1) not in (b"", b"\n")  # a crash left a partial line
            try:
                file.write(b"\n" + content if lacks_line_end else content)
            except OSError:
                file.truncate(size)
                raise
            self.disk.sync(file)
        if is_new:
            self.disk.sync_folder(self.folder)


class Manifests:
    """The manifests of a folder and of its subfolders. Each of these folders has its own manifest."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()
        self._manifests: dict[str, Manifest] = {}

    def at(self, file: str) -> Manifest:
        """The manifest of the folder that `file` is in. `UserError` if it cannot be read."""
        parent = str(PurePosixPath(file).parent)
        if parent not in self._manifests:
            self._manifests[parent] = Manifest(locate(self.root, parent), self.disk)
        return self._manifests[parent]


def check_regular_file(path: Path) -> None:
    """`UserError` if `path` is a folder, a pipe or a device, since an output must not replace these."""
    if is_folder(path):
        raise UserError(f"{path.name or path} is a folder, and the output has to be a file. Name a file.")
    if os.path.lexists(path) and not is_file(path) and not (path.is_symlink() and not path.exists()):
        raise UserError(f"{path.name} is not a regular file, so it is not overwritten. Name another.")


def content_digest(content: bytes) -> str:
    """The SHA-256 of `content` without the line ends at its end, which some editors add."""
    return hashlib.sha256(content.rstrip(b"\r\n")).hexdigest()


def _to_line(entry: ManifestEntry) -> bytes:
    row = {name: value for name, value in asdict(entry).items() if value}
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _parse_entry(line: bytes) -> ManifestEntry | None:
    try:
        entry = ManifestEntry(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    return entry if all(isinstance(value, str) for value in asdict(entry).values()) else None
