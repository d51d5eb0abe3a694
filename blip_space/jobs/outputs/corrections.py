"""The captions that a person corrected in the text files beside images, and the lines that they are corrections of.

Depends on what was written there before; must not import anything that knows models or opens images.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from blip_space.jobs.folder_listing import locate
from blip_space.jobs.outputs.manifest import ManifestEntry, Manifests, content_digest
from blip_space.jobs.records import CaptionRecord

LETTERS = 16


@dataclass(frozen=True)
class Correction:
    """A corrected caption, the digest of the text that holds it, and when that was saved, in seconds of the epoch."""

    caption: str
    text: str
    saved_at: float


class Corrections:
    """The newest correction of an image, in a language, to a prompt. What cannot be read is told in `notes`."""

    def __init__(self, tree: Manifests, files: Iterable[str]) -> None:
        """Looks into every folder in which one of these files lies."""
        self.notes: list[str] = []
        self._found: dict[tuple[str, str, str], Correction] = {}
        for folder in sorted({str(PurePosixPath(file).parent) for file in files}):
            written = tree.at(f"{folder}/x")
            for entry in written.entries.values():
                if entry.digest and (correction := self._read(tree, folder, entry)):
                    self._add((entry.digest, entry.language, entry.prompt), correction)

    def correct(self, record: CaptionRecord) -> CaptionRecord | None:
        """The record as a person corrected it; None where nobody did since it was taken over last."""
        found = self._found.get((record.digest or "", record.language, record.prompt))
        if found is None or found.text == record.edited:
            return None
        if found.caption == record.caption and not record.edited:
            return None
        return replace(record, caption=found.caption, error=None, repeats=False, edited=found.text)

    def __bool__(self) -> bool:
        return bool(self._found)

    def _add(self, asked: tuple[str, str, str], correction: Correction) -> None:
        before = self._found.get(asked)
        if before is None or correction.saved_at >= before.saved_at:
            self._found[asked] = correction

    def _read(self, tree: Manifests, folder: str, entry: ManifestEntry) -> Correction | None:
        name = str(PurePosixPath(folder) / entry.file)
        path = locate(tree.root, name)
        try:
            content, saved_at = path.read_bytes(), path.stat().st_mtime
        except FileNotFoundError:
            return None
        except OSError:
            self.notes.append(f"{name} cannot be read, so a correction in it counts nowhere else")
            return None
        if tree.at(name).is_ours(entry.file, content):
            return None
        text = _decoded(content)
        if text is None:
            self.notes.append(f"{name} is no text in UTF-8, so it counts nowhere else; save it as UTF-8")
            return None
        caption = _without(text, entry.prefix, entry.suffix)
        return Correction(caption, content_digest(content)[:LETTERS], saved_at) if caption else None


def _decoded(content: bytes) -> str | None:
    """What an editor saved; None for what is no text."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except ValueError:
        return None
    return None if "\0" in text else text


def _without(text: str, prefix: str, suffix: str) -> str:
    """The caption without what stands around it; a beginning of a word is no prefix."""
    bare, before, behind = text.strip(), prefix.strip(), suffix.strip()
    if bare in (before, behind, f"{before}{behind}", f"{before} {behind}"):
        return ""
    if before and bare.startswith(before) and not (before[-1].isalnum() and bare[len(before)].isalnum()):
        bare = bare[len(before) :].lstrip()
    if behind and bare.endswith(behind) and not (behind[0].isalnum() and bare[-len(behind) - 1 :][0].isalnum()):
        bare = bare[: -len(behind)].rstrip()
    return bare
