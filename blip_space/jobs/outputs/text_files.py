"""The text files that training tools want beside images: one caption each, and never one in the place of a person's.

Depends on what was written there before; must not import anything that knows models or decodes images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from blip_space import images
from blip_space.errors import ImageError
from blip_space.jobs.durable_files import is_file, is_folder
from blip_space.jobs.folder_listing import locate
from blip_space.jobs.outputs.manifest import Manifest, ManifestEntry, Manifests, content_digest
from blip_space.jobs.outputs.text_format import TextFormat, disambiguate, stem, text_names
from blip_space.jobs.records import CaptionRecord

MAX_NAME_BYTES = 255
"""Of the file systems in use."""

NOT_WRITABLE = "Its folder cannot be written to, so the caption's text has no place. Check the folder's permissions."
NO_LIST = (
    "Its caption is saved, but no text file was written: the folder takes no list of what is ours. Check the folder's "
    "permissions and the room on its disk."
)
THE_OUTPUT = "Its text file would be the output itself. Name another --output or --extension."


@dataclass
class TextOutcome:
    """What became of the text files: names of those left as a person made them, and why others were not written."""

    kept: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


class TextFiles:
    """The text files beside a folder's images."""

    def __init__(self, tree: Manifests, form: TextFormat, *, log_path: Path | None = None) -> None:
        self._tree = tree
        self._form = form
        self._ledger = log_path
        self._writable: dict[Path, bool] = {}

    def find_user_written(self, files: Sequence[str]) -> set[str]:
        """The images whose text a person wrote, and not over one of ours."""
        names = text_names(files, self._form.extension)
        return {file for file, text in names.items() if self._is_by_hand(file, text)}

    def find_blocked(self, files: Iterable[str]) -> dict[str, str]:
        """The images whose text has no place, each with a sentence that says why."""
        sentences = {file: self._obstacle(self._path(file, f"{stem(file)}{self._form.extension}")) for file in files}
        return {file: sentence for file, sentence in sentences.items() if sentence}

    def write(self, records: Sequence[CaptionRecord], *, overwrite_edited: bool) -> TextOutcome:
        """Write what is not there yet; what a person wrote or edited stays unless `overwrite_edited`. What is ours beside an
        image that has no caption any more goes."""
        captioned = {record.file: record for record in records if record.caption and record.caption.strip()}
        names, outcome = self._names(captioned), TextOutcome()
        fresh = self._fresh(captioned, names, outcome, over_edited=overwrite_edited)
        lists: dict[Manifest, list[_Text]] = {}
        for text in fresh:
            lists.setdefault(self._tree.at(text.name), []).append(text)
        for written, texts in lists.items():
            self._write_all(texts, written, outcome)
        with suppress(OSError):  # then an older text stays
            self._remove_superseded([record.file for record in records], set(names.values()))
        if any(text.content is not None for text in fresh):
            self._tree.disk.sync_all()
        for written in lists:
            written.finish()
        return outcome

    def _fresh(
        self, captioned: dict[str, CaptionRecord], names: dict[str, str], outcome: TextOutcome, *, over_edited: bool
    ) -> list[_Text]:
        """What is ours from here on, with its content where that has to be written."""
        fresh = []
        for file, record in captioned.items():
            name, content = names[file], self._form.content(record.caption or "")
            try:
                there = self._read(file, name)
            except OSError as error:
                told = f"Its caption is saved, but {PurePosixPath(name).name} cannot be read, so it stays: {describe_os_error(error)}"
                outcome.failed.append((file, told))
                continue
            if there is not None and content_digest(there) == content_digest(content):
                if not record.edited:  # else a person wrote it, and it stays theirs
                    fresh.append(_Text(file, name, self._entry(name, content, record), None))
            elif there is None or over_edited or self._is_ours(name, there, record.digest or ""):
                fresh.append(_Text(file, name, self._entry(name, content, record), content))
            else:
                outcome.kept.append(name)
        return fresh

    def _write_all(self, texts: Sequence[_Text], written: Manifest, outcome: TextOutcome) -> None:
        before = {text.entry.file: written.entries.get(text.entry.file) for text in texts}
        try:
            written.add([text.entry for text in texts])
        except OSError:
            outcome.failed += [(text.file, NO_LIST) for text in texts if text.content is not None]
            return
        lost = []
        for text in texts:
            path = self._path(text.file, text.name)
            try:
                if text.content is not None:
                    self._tree.disk.write_atomically(path, [text.content], synced=False)
            except OSError as error:
                told = f"Its caption is saved, but {PurePosixPath(text.name).name} was not written: {describe_os_error(error)}"
                outcome.failed.append((text.file, told))
                lost.append(before[text.entry.file])
        try:
            written.add([entry for entry in lost if entry])  # what is there is what was written before
        except OSError:
            return  # then it counts as a person's, and stays

    def _names(self, captioned: dict[str, CaptionRecord]) -> dict[str, str]:
        """As `text_names`; an image that is not of this job keeps the text that is its own."""
        names = {file: f"{stem(file)}{self._form.extension}" for file in captioned}
        for file, name in names.items():
            entry = self._tree.at(name).entries.get(PurePosixPath(name).name)
            other = str(PurePosixPath(name).with_name(entry.image)) if entry and entry.image else file
            if other != file and other not in captioned and is_file(locate(self._tree.root, other)):
                names[file] = f"{file}{self._form.extension}"
        return disambiguate(names, self._form.extension)

    def _is_by_hand(self, file: str, text: str) -> bool:
        if self._is_ledger(self._path(file, text)) or PurePosixPath(text).name in self._tree.at(text).entries:
            return False
        try:
            there = self._read(file, text)
        except OSError:
            return True
        if there is None:
            return False
        return not (self._tree.at(text).is_text(there) and self._is_ours(text, there, self._digest(file)))

    def _is_ours(self, text: str, there: bytes, digest: str) -> bool:
        """Whether we wrote it there, or for the same image under another name, with which it was renamed."""
        written, name = self._tree.at(text), PurePosixPath(text).name
        return written.is_ours(name, there) if name in written.entries else written.is_text_for(digest, there)

    def _is_ledger(self, path: Path) -> bool:
        return self._ledger is not None and path.name == self._ledger.name and path.resolve() == self._ledger

    def _digest(self, file: str) -> str:
        try:
            return images.digest(images.read_file(locate(self._tree.root, file), max_bytes=images.MAX_FILE_BYTES))
        except ImageError:
            return ""

    def _obstacle(self, text: Path) -> str:
        if self._is_ledger(text):
            return THE_OUTPUT
        if is_folder(text):
            return f"{text.name} is a folder, so the caption's text has no place. Rename that folder."
        if len(os.fsencode(text.name)) > MAX_NAME_BYTES:
            return f"The name is too long for a text file that ends with {self._form.extension}. Shorten it."
        if os.path.lexists(text) and not is_file(text) and not text.is_symlink():
            return f"{text.name} is no ordinary file, so the caption's text has no place. Rename it."
        folder = text.parent
        if folder not in self._writable:
            self._writable[folder] = os.access(folder, os.W_OK | os.X_OK)
        return "" if self._writable[folder] else NOT_WRITABLE

    def _read(self, file: str, text: str) -> bytes | None:
        """What the text holds; None where there is none. `OSError` where nobody knows."""
        path = self._path(file, text)
        try:
            if os.path.lexists(path) and not is_file(path) and not path.is_symlink():
                raise OSError("it is no ordinary file")
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, file: str, text: str) -> Path:
        """Where the text lies: beside its image, of whose name it has the very bytes."""
        image = locate(self._tree.root, file)
        own = PurePosixPath(file).name
        name = PurePosixPath(text).name
        if image.name == own:
            return image.with_name(name)
        whole = name.startswith(own)
        return image.with_name(f"{image.name if whole else stem(image.name)}{self._form.extension}")

    def _entry(self, text: str, content: bytes, record: CaptionRecord) -> ManifestEntry:
        return ManifestEntry(
            PurePosixPath(text).name,
            content_digest(content),
            PurePosixPath(record.file).name,
            record.digest or "",
            record.language,
            record.prompt,
            self._form.prefix,
            self._form.suffix,
        )

    def _remove_superseded(self, files: Sequence[str], taken: set[str]) -> None:
        """What we wrote for these images, as far as it is not their text any more and nobody edited it."""
        for file in files:
            for text in (f"{stem(file)}{self._form.extension}", f"{file}{self._form.extension}"):
                written, name = self._tree.at(text), PurePosixPath(text).name
                entry = written.entries.get(name)
                if text in taken or entry is None or entry.image != PurePosixPath(file).name:
                    continue
                path = self._path(file, text)
                if is_file(path) and written.is_ours(name, path.read_bytes()):
                    path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Text:
    """A text that is ours from here on; its content where that is still to be written."""

    file: str
    name: str
    entry: ManifestEntry
    content: bytes | None


def describe_os_error(error: OSError) -> str:
    """What the system says, as the end of a sentence."""
    told = (error.strerror or str(error) or "the system refused it").lower()
    return f"{told}. Run the same command again when that is mended."
