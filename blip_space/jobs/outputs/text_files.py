"""Writes captions to text files beside the images, for training tools. Files that users wrote or edited stay.

Depends on manifests and records; must not import anything that loads models or decodes images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from blip_space.jobs.durable_files import is_file, is_folder
from blip_space.jobs.folder_listing import image_digest, locate
from blip_space.jobs.outputs.manifest import Manifest, ManifestEntry, Manifests, content_digest
from blip_space.jobs.outputs.text_format import TextFormat, disambiguate, stem, text_names
from blip_space.jobs.records import CaptionRecord

MAX_NAME_BYTES = 255
"""The longest file name that common file systems allow."""

NOT_WRITABLE = "Its folder cannot be written to, so its text file cannot be written. Check the folder's permissions."
NO_MANIFEST = (
    "The caption is saved, but its text file was not written, because the list of written files (.blip-space.jsonl) "
    "cannot be updated. Check the folder's permissions and the free disk space."
)
IS_THE_OUTPUT = "Its text file would be the output itself. Name another --output or --extension."


@dataclass
class Outcome:
    """The result of writing: files kept because a user made them, files with an error message, and other messages."""

    kept: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class TextFiles:
    """The text files beside the images of a folder, in one format."""

    def __init__(self, manifests: Manifests, text_format: TextFormat, *, log_path: Path | None = None) -> None:
        self._manifests = manifests
        self._format = text_format
        self._log_path = log_path
        self._writable: dict[Path, bool] = {}

    def find_user_written(self, files: Sequence[str]) -> set[str]:
        """The images whose text file was written by a user. A file that we wrote and a user edited does not count."""
        names = text_names(files, self._format.extension)
        return {file for file, text in names.items() if self._is_user_written(file, text)}

    def find_blocked(self, files: Iterable[str]) -> dict[str, str]:
        """The images whose text file cannot be written, each with a message that says why."""
        paths = {file: self._text_path(file, f"{stem(file)}{self._format.extension}") for file in files}
        return {file: message for file, path in paths.items() if (message := self._obstacle(path))}

    def write(self, records: Sequence[CaptionRecord], *, overwrite_edited: bool) -> Outcome:
        """Write the text files that are missing or outdated. Files that a user wrote or edited stay unless
        `overwrite_edited`. Our files for images of `records` that have no caption any more are removed."""
        captioned = {record.file: record for record in records if record.caption and record.caption.strip()}
        names, outcome = self._names(captioned), Outcome()
        own = self._own_files(captioned, names, outcome, overwrite_edited=overwrite_edited)
        by_manifest: dict[Manifest, list[_Text]] = {}
        for text in own:
            by_manifest.setdefault(self._manifests.at(text.name), []).append(text)
        for manifest, texts in by_manifest.items():
            self._write_all(texts, manifest, outcome)
        with suppress(OSError):  # then an outdated file stays
            self._remove_superseded([record.file for record in records], set(names.values()))
        if any(text.content is not None for text in own):
            self._manifests.disk.sync_all()
        for manifest in by_manifest:
            manifest.finish()
        return outcome

    def _own_files(
        self, captioned: dict[str, CaptionRecord], names: dict[str, str], outcome: Outcome, *, overwrite_edited: bool
    ) -> list[_Text]:
        """The text files that count as ours from now on. Their `content` is None if they already have it."""
        own = []
        for file, record in captioned.items():
            name, content = names[file], self._format.content(record.caption or "")
            try:
                existing = self._read(file, name)
            except OSError as error:
                problem = f"{PurePosixPath(name).name} cannot be read, so it stays: {describe_os_error(error)}"
                outcome.failed.append((file, f"Its caption is saved, but {problem}"))
                continue
            if existing is not None and content_digest(existing) == content_digest(content):
                if not record.edited:  # otherwise a user wrote it, and it stays theirs
                    own.append(_Text(file, name, self._entry(name, content, record), None))
            elif existing is None or overwrite_edited or self._is_ours(name, existing, record.digest or ""):
                own.append(_Text(file, name, self._entry(name, content, record), content))
            else:
                outcome.kept.append(name)
        return own

    def _write_all(self, texts: Sequence[_Text], manifest: Manifest, outcome: Outcome) -> None:
        previous = {text.entry.file: manifest.entries.get(text.entry.file) for text in texts}
        try:
            manifest.add([text.entry for text in texts])
        except OSError:
            outcome.failed += [(text.file, NO_MANIFEST) for text in texts if text.content is not None]
            return
        unwritten = []
        for text in texts:
            path = self._text_path(text.file, text.name)
            try:
                if text.content is not None:
                    self._manifests.disk.write_atomically(path, [text.content], synced=False)
            except OSError as error:
                problem = f"{PurePosixPath(text.name).name} was not written: {describe_os_error(error)}"
                outcome.failed.append((text.file, f"Its caption is saved, but {problem}"))
                unwritten.append(previous[text.entry.file])
        try:
            manifest.add([entry for entry in unwritten if entry])  # the file still has its previous content
        except OSError:
            return  # then the file counts as a user's, and is not overwritten

    def _names(self, captioned: dict[str, CaptionRecord]) -> dict[str, str]:
        """The text file of each image, as in `text_names`; but one that belongs to another image is not taken."""
        names = {file: f"{stem(file)}{self._format.extension}" for file in captioned}
        for file, name in names.items():
            entry = self._manifests.at(name).entries.get(PurePosixPath(name).name)
            other = str(PurePosixPath(name).with_name(entry.image)) if entry and entry.image else file
            if other != file and other not in captioned and is_file(locate(self._manifests.root, other)):
                names[file] = f"{file}{self._format.extension}"
        return disambiguate(names, self._format.extension)

    def _is_user_written(self, file: str, text: str) -> bool:
        if self._is_log(self._text_path(file, text)) or PurePosixPath(text).name in self._manifests.at(text).entries:
            return False
        try:
            existing = self._read(file, text)
        except OSError:
            return True
        if existing is None:
            return False
        is_own_text = self._manifests.at(text).is_text(existing)
        return not (is_own_text and self._is_ours(text, existing, image_digest(self._manifests.root, file)))

    def _is_ours(self, text: str, existing: bytes, digest: str) -> bool:
        """Whether we wrote the content `existing` to the file `text`, or beside the same image before a renaming."""
        manifest, name = self._manifests.at(text), PurePosixPath(text).name
        return manifest.is_ours(name, existing) if name in manifest.entries else manifest.is_text_for(digest, existing)

    def _is_log(self, path: Path) -> bool:
        return self._log_path is not None and path.name == self._log_path.name and path.resolve() == self._log_path

    def _obstacle(self, text: Path) -> str:
        if self._is_log(text):
            return IS_THE_OUTPUT
        if is_folder(text):
            return f"{text.name} is a folder, so the text file cannot be written. Rename that folder."
        if len(os.fsencode(text.name)) > MAX_NAME_BYTES:
            return f"The name is too long for a text file that ends with {self._format.extension}. Shorten it."
        if os.path.lexists(text) and not is_file(text) and not text.is_symlink():
            return f"{text.name} is not a regular file, so the text file cannot be written. Rename it."
        folder = text.parent
        if folder not in self._writable:
            self._writable[folder] = os.access(folder, os.W_OK | os.X_OK)
        return "" if self._writable[folder] else NOT_WRITABLE

    def _read(self, file: str, text: str) -> bytes | None:
        """The content of the text file of an image, or None if there is none. `OSError` if it cannot be read."""
        path = self._text_path(file, text)
        try:
            if os.path.lexists(path) and not is_file(path) and not path.is_symlink():
                raise OSError("it is not a regular file")
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def _text_path(self, file: str, text: str) -> Path:
        """The path of the text file, beside its image. A name that is not UTF-8 keeps the bytes of the image's name."""
        image = locate(self._manifests.root, file)
        own = PurePosixPath(file).name
        name = PurePosixPath(text).name
        if image.name == own:
            return image.with_name(name)
        has_full_name = name.startswith(own)
        return image.with_name(f"{image.name if has_full_name else stem(image.name)}{self._format.extension}")

    def _entry(self, text: str, content: bytes, record: CaptionRecord) -> ManifestEntry:
        return ManifestEntry(
            PurePosixPath(text).name,
            content_digest(content),
            PurePosixPath(record.file).name,
            record.digest or "",
            record.language,
            record.prompt,
            self._format.prefix,
            self._format.suffix,
        )

    def _remove_superseded(self, files: Sequence[str], current_names: set[str]) -> None:
        """Remove the text files that we wrote for these images under names not in `current_names`, if not edited."""
        for file in files:
            for text in (f"{stem(file)}{self._format.extension}", f"{file}{self._format.extension}"):
                manifest, name = self._manifests.at(text), PurePosixPath(text).name
                entry = manifest.entries.get(name)
                if text in current_names or entry is None or entry.image != PurePosixPath(file).name:
                    continue
                path = self._text_path(file, text)
                if is_file(path) and manifest.is_ours(name, path.read_bytes()):
                    path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Text:
    """A text file that is ours from now on. `file` is its image; `content` is None if it need not be written."""

    file: str
    name: str
    entry: ManifestEntry
    content: bytes | None


def describe_os_error(error: OSError) -> str:
    """The system's error message, which ends the caller's sentence, and a sentence that says what to do."""
    message = (error.strerror or str(error) or "the system refused it").lower()
    return f"{message}. Run the same command again when that is fixed."
