"""Lists the images of a folder, with the reasons why other files are ignored, and reads an image by its name.

Must not decode images.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from blip_space import images
from blip_space.errors import ImageError, UserError
from blip_space.jobs.hidden_names import is_hidden

HIDDEN = "hidden"
NOT_AN_IMAGE = "other files"
NOT_A_FILE = "not ordinary files"
BROKEN_LINK = "links that lead nowhere"
SUBFOLDER = "subfolders (--recursive looks into them)"
LINKED_TWICE = "folders linked more than once"
SAME_NAME = "with the same printable name as another"
BEYOND_LIMIT = "beyond --limit"
UNREADABLE_FOLDER = "The folder cannot be read. Check its permissions."

COMPANION_EXTENSIONS = frozenset(
    {".txt", ".caption", ".json", ".jsonl", ".csv", ".npz", ".npy", ".tar", ".zip", ".safetensors", ".md", ".parquet"}
)
"""Extensions of files that are often beside images. Such a file is ignored without looking at its content."""

MANIFEST_NAME = ".blip-space.jsonl"
"""The file that lists what this program wrote in a folder. It is in the folder, so that the two move together."""

HEAD_BYTES = 64
ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


@dataclass
class Listing:
    """The images of a folder, and what was ignored. `names` are sorted, relative to the folder, with slashes."""

    names: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """The number of ignored files and folders for each reason."""

    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders that cannot be read, each with a message."""

    def __str__(self) -> str:
        """A sentence with the number of images, and of ignored files for each reason."""
        count = f"{len(self.names):,} image{'s' * (len(self.names) != 1)} found"
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(self.ignored.items()))
        return f"{count}; ignored: {reasons}" if reasons else count


def find_images(
    folder: Path, *, recursive: bool, pattern: str | None, limit: int | None, own_files: Collection[Path] = ()
) -> Listing:
    """The first `limit` images of a folder, without `own_files` (resolved paths). `UserError` if there is none.

    The extension decides whether a file is an image or, if it is unknown, the first bytes. Hidden files and folders,
    and those of the system, are ignored. Links to folders are followed once. With a `pattern` such as `*.jpg` or
    `cats/**/*.jpg`, only matching files are considered.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {printable_name(folder.name)!r}. Check its name.")
    listing = _Walk(folder, recursive=recursive, pattern=pattern, own_files=own_files).run()
    if not listing.names and not listing.unreadable:
        reasons = f" Ignored: {str(listing).partition('ignored: ')[2]}." if listing.ignored else ""
        where = "" if recursive else " Use --recursive to include its subfolders."
        raise UserError(f"There is no image in {printable_name(folder.resolve().name)!r}.{where}{reasons}")
    if limit is not None and len(listing.names) > limit:
        listing.ignored[BEYOND_LIMIT] = len(listing.names) - limit
        listing.names = listing.names[:limit]
    return listing


def printable_name(name: str) -> str:
    r"""A file's name as text that can be printed: each byte that is not UTF-8 is escaped, for example as `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def locate(folder: Path, name: str) -> Path:
    """The path of the file in `folder` whose relative `printable_name` is `name`."""
    path = folder / name
    if "\\x" not in name or os.path.lexists(path):
        return path
    return folder / os.fsdecode(ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode()))


def read_image(folder: Path, name: str) -> bytes:
    """The bytes of an image file. `name` is its printable name in `folder`. `ImageError` if it cannot be read."""
    return images.read_file(locate(folder, name), max_bytes=images.MAX_FILE_BYTES)


def image_digest(folder: Path, name: str) -> str:
    """The digest of an image file, or an empty string if it cannot be read. `name` is its printable name."""
    try:
        return images.digest(read_image(folder, name))
    except ImageError:
        return ""


def looks_like_image(path: str | Path) -> bool:
    """Whether the first bytes of a file are those of an image format, whatever its name is."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # called for very many files
            return images.is_image(file.read(HEAD_BYTES))
    except OSError:
        return False


class _Folder(NamedTuple):
    """A folder to visit: its path, and its name, which is relative to the job's folder and ends with a slash."""

    path: str
    name: str


class _Walk:
    """One traversal of a folder. Links to folders are visited last, so that a file is listed by its real name."""

    def __init__(self, folder: Path, *, recursive: bool, pattern: str | None, own_files: Collection[Path]) -> None:
        self._root = _Folder(os.fspath(folder), "")
        self._matches = _compile_glob(pattern, recursive=recursive) if pattern else None
        self._recursive = recursive or "/" in (pattern or "")
        self._own_files = {path.name: path for path in own_files}
        self._linked: list[_Folder] = []
        self._visited = set[tuple[int, int]]()
        self._listing = Listing()

    def run(self) -> Listing:
        files = list(self._files(self._root))
        while self._linked:
            links, self._linked = sorted(self._linked), []
            for link in links:
                files += self._files(link)
        names = sorted(map(printable_name, files))
        self._listing.names = list(dict.fromkeys(names))
        self._ignore(SAME_NAME, len(names) - len(self._listing.names))
        return self._listing

    def _files(self, first: _Folder) -> Iterator[str]:
        folders = [first]
        while folders:
            folder = folders.pop()
            if not self._is_first_visit(folder):
                self._ignore(LINKED_TWICE)
                continue
            for entry in self._entries(folder):
                name = folder.name + entry.name
                if is_hidden(entry.name):
                    self._ignore(HIDDEN, self._matches is None and not _is_job_file(entry.name))
                elif _check(entry.is_dir):
                    self._visit_later(entry, name, folders)
                elif self._matches is None or self._matches(name):
                    if reason := self._reason_to_ignore(entry):
                        self._ignore(reason)
                    else:
                        yield name

    def _visit_later(self, entry: os.DirEntry[str], name: str, folders: list[_Folder]) -> None:
        subfolder = _Folder(entry.path, f"{name}/")
        if not self._recursive:
            self._ignore(SUBFOLDER)
        elif entry.is_symlink():
            self._linked.append(subfolder)
        else:
            folders.append(subfolder)

    def _is_first_visit(self, folder: _Folder) -> bool:
        try:
            status = Path(folder.path).stat()
        except OSError:
            return True  # `_entries` will report the error
        identity = (status.st_dev, status.st_ino)
        is_first_visit = identity not in self._visited
        self._visited.add(identity)
        return is_first_visit

    def _entries(self, folder: _Folder) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder.path) as entries:
                return list(entries)
        except OSError:
            self._listing.unreadable.append((printable_name(folder.name.rstrip("/")) or ".", UNREADABLE_FOLDER))
            return []

    def _reason_to_ignore(self, entry: os.DirEntry[str]) -> str:
        """The reason why a file is ignored, or an empty string if it is an image."""
        if not _check(entry.is_file):
            return BROKEN_LINK if entry.is_symlink() else NOT_A_FILE
        if (own := self._own_files.get(entry.name)) and Path(entry.path).resolve() == own:
            return NOT_AN_IMAGE
        _, dot, end = entry.name.rpartition(".")
        extension = f"{dot}{end.lower()}" if dot else ""
        if extension in images.EXTENSIONS:
            return ""
        return NOT_AN_IMAGE if extension in COMPANION_EXTENSIONS or not looks_like_image(entry.path) else ""

    def _ignore(self, reason: str, count: int = 1) -> None:
        if count:
            self._listing.ignored[reason] += count


def _is_job_file(name: str) -> bool:
    """Whether a hidden file was made by a folder job: a manifest, a lock or a temporary file."""
    return name == MANIFEST_NAME or name.endswith((".lock", ".draft"))


def _compile_glob(pattern: str, *, recursive: bool) -> Callable[[str], bool]:
    """A function that matches relative names with `pattern`, as `Path.glob` does, or `Path.rglob` if `recursive`."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith("/") or ".." in parts or not parts:
        raise UserError(f"--glob must be a relative pattern without `..`, such as '*.jpg', not {pattern[:80]!r}.")
    if recursive:
        parts.insert(0, "**")
    return lambda name: _matches(parts, name.split("/"))


def _matches(pattern: Sequence[str], names: Sequence[str]) -> bool:
    if not pattern or not names:
        return not pattern and not names
    if pattern[0] == "**":
        return len(pattern) == 1 or _matches(pattern[1:], names) or _matches(pattern, names[1:])
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _matches(pattern[1:], names[1:])


def _check(method: Callable[[], bool]) -> bool:
    """What `method` returns, or False if it raises, as for a circular link or a link into a folder without access."""
    try:
        return method()
    except OSError:
        return False
