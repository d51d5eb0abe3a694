"""Finds the captions that users corrected in the text files beside images, and applies them to records.

Depends on manifests and records; must not import anything that loads models or decodes images.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from blip_space.jobs.folder_listing import locate
from blip_space.jobs.outputs.manifest import ManifestEntry, Manifests, content_digest
from blip_space.jobs.records import CaptionRecord

DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Correction:
    """A corrected caption, the digest of its text file, and the time when the file was saved (seconds since 1970)."""

    caption: str
    text_digest: str
    saved_at: float


class Corrections:
    """The newest correction for each image, language and prompt. `notes` has a message for each unreadable file."""

    def __init__(self, tree: Manifests, files: Iterable[str]) -> None:
        """Read the corrections in the folders of the images `files`. `tree` has the manifests of these folders."""
        self.notes: list[str] = []
        self._corrections: dict[tuple[str, str, str], Correction] = {}
        for folder in sorted({str(PurePosixPath(file).parent) for file in files}):
            for entry in tree.at(f"{folder}/x").entries.values():
                if entry.digest and (correction := self._read(tree, folder, entry)):
                    self._add((entry.digest, entry.language, entry.prompt), correction)

    def correct(self, record: CaptionRecord) -> CaptionRecord | None:
        """The record with its corrected caption, or None if there is no correction or the record already has it."""
        correction = self._corrections.get((record.digest or "", record.language, record.prompt))
        if correction is None or correction.text_digest == record.edited:
            return None
        if correction.caption == record.caption and not record.edited:
            return None
        return replace(record, caption=correction.caption, error=None, repeats=False, edited=correction.text_digest)

    def __bool__(self) -> bool:
        return bool(self._corrections)

    def _add(self, key: tuple[str, str, str], correction: Correction) -> None:
        earlier = self._corrections.get(key)
        if earlier is None or correction.saved_at >= earlier.saved_at:
            self._corrections[key] = correction

    def _read(self, tree: Manifests, folder: str, entry: ManifestEntry) -> Correction | None:
        name = str(PurePosixPath(folder) / entry.file)
        path = locate(tree.root, name)
        try:
            content, saved_at = path.read_bytes(), path.stat().st_mtime
        except FileNotFoundError:
            return None
        except OSError:
            self.notes.append(f"{name} cannot be read, so if you corrected it, other outputs have the old caption")
            return None
        if tree.at(name).is_ours(entry.file, content):
            return None
        text = _decode_text(content)
        if text is None:
            self.notes.append(f"{name} is not UTF-8 text, so other outputs have the old caption; save it as UTF-8")
            return None
        caption = _strip_affixes(text, entry.prefix, entry.suffix)
        return Correction(caption, content_digest(content)[:DIGEST_CHARACTERS], saved_at) if caption else None


def _decode_text(content: bytes) -> str | None:
    """The text in a file that an editor saved as UTF-8 or UTF-16, or None if it is not text."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except ValueError:
        return None
    return None if "\0" in text else text


def _strip_affixes(text: str, prefix: str, suffix: str) -> str:
    """The caption in `text`, without `prefix` and `suffix`. These are kept if they are only a part of a word."""
    text, prefix, suffix = text.strip(), prefix.strip(), suffix.strip()
    if text in (prefix, suffix, f"{prefix}{suffix}", f"{prefix} {suffix}"):
        return ""
    if prefix and text.startswith(prefix) and not (prefix[-1].isalnum() and text[len(prefix)].isalnum()):
        text = text[len(prefix) :].lstrip()
    if suffix and text.endswith(suffix) and not (suffix[0].isalnum() and text[-len(suffix) - 1 :][0].isalnum()):
        text = text[: -len(suffix)].rstrip()
    return text
