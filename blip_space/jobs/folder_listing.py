"""Which files of a folder are its images, and what is passed by and why.

Depends on names, and on the first bytes of files whose names say nothing; must not import anything that decodes images.
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
from blip_space.errors import UserError
from blip_space.jobs.hidden_names import is_hidden

HIDDEN = "hidden"
NO_IMAGE = "other files"
NOT_A_FILE = "not ordinary files"
BROKEN_LINK = "links that lead nowhere"
SUBFOLDER = "subfolders (--recursive looks into them)"
LINKED_TWICE = "folders linked more than once"
SAME_NAME = "with a name that cannot be told from another's"
BEYOND = "beyond --limit"
UNREADABLE_FOLDER = "The folder cannot be read. Check its permissions."

BESIDE_IMAGES = frozenset(
    {".txt", ".caption", ".json", ".jsonl", ".csv", ".npz", ".npy", ".tar", ".zip", ".safetensors", ".md", ".parquet"}
)
"""What lies beside images by the thousand, and is never looked into for being one."""

MANIFEST_NAME = ".blip-space.jsonl"
"""What this program wrote in a folder; it lies in the folder, so that it moves with it."""

HEAD_BYTES = 64
ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


@dataclass
class Listing:
    """A folder's images in the order of their names, relative to it, with slashes; and what was not taken."""

    names: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """How many things were passed by, by the reason."""

    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders that cannot be looked into, each with a sentence."""

    def __str__(self) -> str:
        """What was taken, what was passed by, and why."""
        taken = f"{len(self.names):,} image{'s' * (len(self.names) != 1)} taken"
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.ignored.items()))
        return f"{taken}; passed by: {reasons}" if reasons else taken


def find_images(
    folder: Path, *, recursive: bool, pattern: str | None, limit: int | None, own_files: Collection[Path] = ()
) -> Listing:
    """The images of a folder, without the files that are `ours`. `UserError` where there is none.

    An image is known by its name's ending, or by its first bytes where the name has no known one. What is hidden, or
    made by a machine, is passed by, and links to folders are followed once. Of a `pattern` such as `*.jpg`, or
    `cats/**/*.jpg`, only what matches is looked at.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {printable_name(folder.name)!r}. Check its name.")
    walk = _Walk(folder, recursive=recursive, pattern=pattern, ours=own_files)
    listing = walk.listing()
    if not listing.names and not listing.unreadable:
        reasons = f" Passed by: {str(listing).partition('passed by: ')[2]}." if listing.ignored else ""
        where = "" if recursive else " Its folders are looked into with --recursive."
        raise UserError(f"There is no picture in {printable_name(folder.resolve().name)!r}.{where}{reasons}")
    if limit is not None and len(listing.names) > limit:
        listing.ignored[BEYOND] = len(listing.names) - limit
        listing.names = listing.names[:limit]
    return listing


def printable_name(name: str) -> str:
    r"""A file's name as text that every file and terminal can hold: bytes that are no UTF-8 become `\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def locate(folder: Path, name: str) -> Path:
    """Where the file of that name lies, which is told as `shown` does."""
    path = folder / name
    if "\\x" not in name or os.path.lexists(path):
        return path
    return folder / os.fsdecode(ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode()))


class _Folder(NamedTuple):
    """A folder on the way: where it lies, and its name relative to the first, with a slash at its end."""

    path: str
    name: str


class _Walk:
    """One look through a folder. Folders themselves come before links to them, whichever sorts first."""

    def __init__(self, folder: Path, *, recursive: bool, pattern: str | None, ours: Collection[Path]) -> None:
        self._root = _Folder(os.fspath(folder), "")
        self._matches = _matcher(pattern, recursive=recursive) if pattern else None
        self._recursive = recursive or "/" in (pattern or "")
        self._ours = {path.name: path for path in ours}
        self._linked: list[_Folder] = []
        self._visited = set[tuple[int, int]]()
        self._listing = Listing()

    def listing(self) -> Listing:
        found = list(self._files(self._root))
        while self._linked:
            links, self._linked = sorted(self._linked), []
            for link in links:
                found += self._files(link)
        names = sorted(map(printable_name, found))
        self._listing.names = list(dict.fromkeys(names))
        self._pass_by(SAME_NAME, len(names) - len(self._listing.names))
        return self._listing

    def _files(self, first: _Folder) -> Iterator[str]:
        waiting = [first]
        while waiting:
            folder = waiting.pop()
            if not self._is_new(folder):
                self._pass_by(LINKED_TWICE)
                continue
            for entry in self._entries(folder):
                name = folder.name + entry.name
                if is_hidden(entry.name):
                    self._pass_by(HIDDEN, self._matches is None and not _is_of_a_job(entry.name))
                elif _is(entry.is_dir):
                    self._meet(entry, name, waiting)
                elif self._matches is None or self._matches(name):
                    if reason := self._refusal(entry):
                        self._pass_by(reason)
                    else:
                        yield name

    def _meet(self, entry: os.DirEntry[str], name: str, waiting: list[_Folder]) -> None:
        below = _Folder(entry.path, f"{name}/")
        if not self._recursive:
            self._pass_by(SUBFOLDER)
        elif entry.is_symlink():
            self._linked.append(below)
        else:
            waiting.append(below)

    def _is_new(self, folder: _Folder) -> bool:
        try:
            status = Path(folder.path).stat()
        except OSError:
            return True  # what keeps it from being read is told when it is
        identity = (status.st_dev, status.st_ino)
        is_new = identity not in self._visited
        self._visited.add(identity)
        return is_new

    def _entries(self, folder: _Folder) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder.path) as entries:
                return list(entries)
        except OSError:
            self._listing.unreadable.append((printable_name(folder.name.rstrip("/")) or ".", UNREADABLE_FOLDER))
            return []

    def _refusal(self, entry: os.DirEntry[str]) -> str:
        """Why an entry is passed by; nothing for an image."""
        if not _is(entry.is_file):
            return BROKEN_LINK if entry.is_symlink() else NOT_A_FILE
        if (mine := self._ours.get(entry.name)) and Path(entry.path).resolve() == mine:
            return NO_IMAGE
        _, dot, end = entry.name.rpartition(".")
        ending = f"{dot}{end.lower()}" if dot else ""
        if ending in images.EXTENSIONS:
            return ""
        return NO_IMAGE if ending in BESIDE_IMAGES or not _looks_like_image(entry.path) else ""

    def _pass_by(self, reason: str, count: int = 1) -> None:
        if count:
            self._listing.ignored[reason] += count


def _is_of_a_job(name: str) -> bool:
    """Whether a job like this one keeps the hidden file for itself."""
    return name == MANIFEST_NAME or name.endswith((".lock", ".draft"))


def _looks_like_image(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # once for each of very many files
            return images.is_image(file.read(HEAD_BYTES))
    except OSError:
        return False


def _matcher(pattern: str, *, recursive: bool) -> Callable[[str], bool]:
    """Whether a relative name matches a glob, as `Path.glob` and, looking into folders, `Path.rglob` have it."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith("/") or ".." in parts or not parts:
        raise UserError(f"--glob {pattern[:80]!r} names nothing in the folder. Name what to take, such as '*.jpg'.")
    if recursive:
        parts.insert(0, "**")
    return lambda name: _matches(parts, name.split("/"))


def _matches(pattern: Sequence[str], names: Sequence[str]) -> bool:
    if not pattern or not names:
        return not pattern and not names
    if pattern[0] == "**":
        return len(pattern) == 1 or _matches(pattern[1:], names) or _matches(pattern, names[1:])
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _matches(pattern[1:], names[1:])


def _is(question: Callable[[], bool]) -> bool:
    """A link in a circle, or into a folder that may not be entered, is neither a file nor a folder."""
    try:
        return question()
    except OSError:
        return False
