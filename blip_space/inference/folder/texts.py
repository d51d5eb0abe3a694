"""The text files that training tools want beside images: one caption each, and never one in the place of a person's.

Depends on what was written here before; must not import anything that knows models or opens images.
"""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from blip_space import images
from blip_space.errors import UserError
from blip_space.inference.folder.disk import is_file, is_folder
from blip_space.inference.folder.files import locate
from blip_space.inference.folder.record import Record
from blip_space.inference.folder.written import Entry, WrittenFiles, sha256

MAX_NAME_BYTES = 255
"""Of the file systems in use."""

Asked: TypeAlias = tuple[str, str, str]
"""An image's name, the language and the prompt of a text."""


@dataclass(frozen=True)
class TextForm:
    """How a caption becomes a text file: its ending, and what stands around the caption."""

    extension: str = ".txt"
    prefix: str = ""
    suffix: str = ""

    def content(self, caption: str) -> bytes:
        """The file's content. The caption stands on one line, the first being all that some tools read."""
        return f"{self.prefix}{' '.join(caption.split())}{self.suffix}".encode("utf-8", "backslashreplace")


@dataclass
class TextOutcome:
    """What became of the text files: names of those left as a person made them, and why others were not written."""

    kept: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def read_form(extension: str, prefix: str, suffix: str) -> TextForm:
    """`UserError` for an ending that is none, or an image's."""
    ending = extension if extension.startswith(".") else f".{extension}"
    if len(ending) < 2 or "/" in ending or "\\" in ending or ending.lower() in images.ENDINGS:
        raise UserError(f"--extension {extension!r} is no ending of a text file. Name one such as .txt or .caption.")
    return TextForm(ending, prefix, suffix)


def text_names(files: Iterable[str], extension: str) -> dict[str, str]:
    """Each file's text: its name with the other ending, or its whole name before that where two would share one."""
    names = {file: f"{stem(file)}{extension}" for file in files}
    while taken := [name for name, count in Counter(names.values()).items() if count > 1]:
        # again, since a.jpg and a.png become a.jpg.txt and a.png.txt, and the latter is also what a.png.webp has
        for file, name in names.items():
            if name in taken:
                names[file] = f"{file}{extension}"
    return names


def stem(file: str) -> str:
    """A name without its ending; what does not end as images do is no ending."""
    path = PurePosixPath(file)
    return str(path.with_suffix("")) if path.suffix.lower() in images.ENDINGS else file


class Texts:
    """The text files beside a folder's images."""

    def __init__(self, folder: Path, form: TextForm, written: WrittenFiles) -> None:
        self._folder = folder
        self._form = form
        self._written = written
        self._writable: dict[Path, bool] = {}

    def by_hand(self, files: Iterable[str]) -> set[str]:
        """The images whose text a person wrote, and not over one of ours."""
        return {
            file
            for file in files
            for text in self._candidates(file)
            if text not in self._written.entries and is_file(self._folder / text)
        }

    def blocked(self, files: Iterable[str]) -> dict[str, str]:
        """The images whose text has no place, each with a sentence that says why."""
        sentences = {file: self._obstacle(self._path(f"{stem(file)}{self._form.extension}")) for file in files}
        return {file: sentence for file, sentence in sentences.items() if sentence}

    def write(self, records: Sequence[Record], *, over_edited: bool) -> TextOutcome:
        """Write what is not there yet; what a person wrote or edited stays unless `over_edited`."""
        captioned = {record.file: record for record in records if record.caption and record.caption.strip()}
        names = text_names(captioned, self._form.extension)
        outcome, fresh = TextOutcome(), dict[str, bytes]()
        entries = []
        for file, record in captioned.items():
            content = self._form.content(record.caption or "")
            there = self._read(names[file])
            if there == content and record.edited:
                continue  # which a person wrote, and it stays theirs
            if there is None or there == content or over_edited or self._written.wrote(names[file], there):
                entries.append(self._entry(names[file], content, record))
                if there != content:
                    fresh[file] = content
            else:
                outcome.kept.append(names[file])
        try:
            self._written.add(entries)
        except OSError:
            return TextOutcome(outcome.kept, [(file, NO_LIST) for file in fresh])
        for file, content in fresh.items():
            if sentence := self._write(names[file], content):
                outcome.failed.append((file, sentence))
        self._remove_superseded(names)
        return outcome

    def _candidates(self, file: str) -> tuple[str, str]:
        return f"{stem(file)}{self._form.extension}", f"{file}{self._form.extension}"

    def _obstacle(self, text: Path) -> str:
        if is_folder(text):
            return f"{text.name} is a folder, so the caption's text has no place. Rename that folder."
        if len(os.fsencode(text.name)) > MAX_NAME_BYTES:
            return f"The name is too long for a text file that ends with {self._form.extension}. Shorten it."
        folder = text.parent
        if folder not in self._writable:
            self._writable[folder] = os.access(folder, os.W_OK | os.X_OK)
        return "" if self._writable[folder] else NOT_WRITABLE

    def _read(self, text: str) -> bytes | None:
        try:
            return self._path(text).read_bytes()
        except OSError:
            return None

    def _path(self, text: str) -> Path:
        return locate(self._folder, text)

    def _entry(self, text: str, content: bytes, record: Record) -> Entry:
        around = {"prefix": self._form.prefix, "suffix": self._form.suffix}
        return Entry(text, sha256(content), record.file, record.language, record.prompt, **around)

    def _write(self, text: str, content: bytes) -> str:
        """Nothing, or the sentence that says why it was not written."""
        path = self._path(text)
        try:
            self._written.disk.write_atomically(path, [content], synced=False)
        except OSError as error:
            return f"Its caption is saved, but {path.name} was not written: {reason(error)}"
        return ""

    def _remove_superseded(self, names: Mapping[str, str]) -> None:
        """What we wrote under a name that another image shares by now, as far as nobody edited it."""
        taken = set(names.values())
        for entry in list(self._written.entries.values()):
            name, is_ours = entry.file, entry.image in names and entry.file.endswith(self._form.extension)
            if is_ours and name not in taken and name in self._candidates(entry.image):
                there = self._read(name)
                if there is not None and self._written.wrote(name, there):
                    self._path(name).unlink(missing_ok=True)


NOT_WRITABLE = "Its folder cannot be written to, so the caption's text has no place. Check the folder's permissions."
NO_LIST = (
    "Its caption is saved, but no text file was written: the folder takes no list of what is ours. Check the folder's "
    "permissions and the room on its disk."
)


def edited_captions(written: WrittenFiles) -> dict[Asked, str]:
    """The captions that a person corrected in text files of ours."""
    corrections = {}
    for entry in written.entries.values():
        if not entry.image:
            continue
        try:
            content = locate(written.folder, entry.file).read_bytes()
        except OSError:
            continue
        if not written.wrote(entry.file, content) and (caption := _caption(content, entry)):
            corrections[entry.image, entry.language, entry.prompt] = caption
    return corrections


def reason(error: OSError) -> str:
    """What the system says, as the end of a sentence."""
    return f"{(error.strerror or 'the system refused it').lower()}. Run the same command again when that is mended."


def _caption(content: bytes, entry: Entry) -> str:
    """What an editor saved, without what stands around the caption; nothing for what is no text."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig").strip("\r\n")
    except ValueError:
        return ""
    return text.removeprefix(entry.prefix).removesuffix(entry.suffix.rstrip("\r\n")).strip()
