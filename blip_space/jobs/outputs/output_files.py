"""What a folder job makes of its lines and where: which files those are, and whether they may be written.

Depends on the forms and on what was written before; must not import anything that loads models.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blip_space import images
from blip_space.errors import UserError
from blip_space.jobs import export
from blip_space.jobs.durable_files import is_file
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.outputs import dataset_formats, shards
from blip_space.jobs.outputs.manifest import SIZE_PREFIX, Manifest, ManifestEntry, Manifests, check_regular_file
from blip_space.jobs.outputs.text_files import TextFiles, describe_os_error
from blip_space.jobs.outputs.text_format import TextFormat
from blip_space.jobs.records import CaptionRecord

FORMATS = ("jsonl", "json", "csv", "txt", "imagefolder", "coco", "webdataset")
SINGLE_CAPTION_FORMATS = frozenset({"txt", "imagefolder", "coco", "webdataset"})
"""Forms that hold one caption an image, so one language."""

WAY_OUT = "Rename it, name another --output, or write over it with --overwrite-edited."
HEAD_BYTES = 64


@dataclass
class Outcome:
    """What became of it: names of files that were left as a person made them, what was not written and why, and what
    else a person has to know."""

    kept: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class OutputFiles:
    """One form of a job's captions."""

    def __init__(
        self, form: str, path: Path, folder: Path, *, text_format: TextFormat, overwrite_edited: bool = False
    ) -> None:
        """`path` is what `--output` names, in `folder` the images lie. `UserError` where the former can be no file."""
        self.format = form
        self.folder = folder
        try:
            self.path = path.resolve()
        except (OSError, RuntimeError):
            raise UserError(f"{path.name} is a link in a circle. Name another --output.") from None
        check_regular_file(self.path)
        self.tree = Manifests(folder)
        """What was written beside the images."""

        self.overwrite_edited = overwrite_edited
        self.texts = TextFiles(self.tree, text_format, log_path=self.log_path)
        self._written = self.tree.at(dataset_formats.METADATA) if form == "imagefolder" else Manifest(self.path.parent)

    @property
    def log_path(self) -> Path:
        """Lines are appended to a file of lines, whatever is made of it at the end."""
        if self.format in ("jsonl", "txt"):
            return self.path
        if self.format == "imagefolder" and self.path != (self.folder / dataset_formats.METADATA).resolve():
            return self.path
        return self.path.with_name(f"{self.path.name}.jsonl")

    @property
    def files(self) -> list[Path]:
        """What this job writes, resolved: no image, whatever lies among the images."""
        return [self.log_path, *((self._written.folder / name).resolve() for name in self._names())]

    def check(self, ledger: OutputLog) -> None:
        """`UserError` where a file that is to be made is there, and is not as we made it, or can have no place."""
        names = {*self._names(), *self._shards()}
        for path in (self._written.folder / name for name in names):
            check_regular_file(path)
            _refuse_image(path)
        for name in () if self.overwrite_edited else sorted(names):
            self._written.check_replaceable(name, way_out=WAY_OUT, unless=lambda path: _is_of_lines(path, ledger))
        if names and not os.access(self._written.folder, os.W_OK | os.X_OK):
            raise UserError(f"The folder of {min(names)} cannot be written to. Check its permissions.")

    def write(self, records: Sequence[CaptionRecord], *, unreadable: Collection[str] = ()) -> Outcome:
        """Make it, of the job's own records in their order. Data sets hold no image that is `unreadable` now."""
        if self.format == "jsonl":
            return Outcome()
        if self.format == "txt":
            made = self.texts.write(records, overwrite_edited=self.overwrite_edited)
            return Outcome(made.kept, made.failed)
        usable = [record for record in records if (record.caption or "").strip() and record.file not in unreadable]
        try:
            return self._writers()[self.format](records if self.format in ("json", "csv") else usable)
        except OSError as error:
            told = f"It was not written: {describe_os_error(error)} The captions themselves are saved in {self.log_path.name}."
            return Outcome(failed=[(self._names()[0], told)])

    def _names(self) -> list[str]:
        """The files beside the ledger, relative to where they are written."""
        if self.format in ("json", "csv"):
            return [self.path.name]
        if self.format == "imagefolder":
            return [dataset_formats.METADATA]
        if self.format == "coco":
            return [self.path.name, f"{self.path.stem}.images.json"]
        if self.format == "webdataset":
            return [shards.shard_name(self.path, 0)]
        return []

    def _shards(self) -> list[str]:
        """The shards that are there, whoever made them."""
        if self.format != "webdataset":
            return []
        pattern = shards.shard_pattern(self.path)
        return [name for name in sorted(os.listdir(self.path.parent)) if pattern.fullmatch(name)]  # noqa: PTH208

    def _writers(self) -> dict[str, Callable[[Sequence[CaptionRecord]], Outcome]]:
        return {
            "json": lambda records: self._whole([export.as_json(records)]),
            "csv": lambda records: self._whole([export.as_csv(records)]),
            "imagefolder": self._imagefolder,
            "coco": lambda records: self._whole(dataset_formats.to_coco(records)),
            "webdataset": self._webdataset,
        }

    def _whole(self, contents: Sequence[bytes]) -> Outcome:
        for name, content in zip(self._names(), contents, strict=True):
            self._written.replace(name, content)
        return Outcome()

    def _imagefolder(self, records: Sequence[CaptionRecord]) -> Outcome:
        taken, failed = dataset_formats.select_loadable(records, self.folder)
        self._written.replace(dataset_formats.METADATA, b"".join(dataset_formats.to_metadata(taken)))
        files = [record.file for record in taken]
        notes = dataset_formats.find_obstacles(files, self.folder)
        if splitting := dataset_formats.find_split_names(files):
            notes.append(dataset_formats.describe_split(splitting[0], self.folder, with_card=self._write_card(files)))
        return Outcome(failed=failed, notes=notes)

    def _write_card(self, files: Sequence[str]) -> bool:
        """Whether the folder has a card of ours, by which every file is of one split."""
        card = self.folder / dataset_formats.CARD
        try:
            if is_file(card) and not self._written.is_ours(dataset_formats.CARD, card.read_bytes()):
                return False
            self._written.replace(dataset_formats.CARD, dataset_formats.to_card(files))
        except OSError:
            return False
        return True

    def _webdataset(self, records: Sequence[CaptionRecord]) -> Outcome:
        sizes, failed = shards.write_shards(records, self.folder, self.path, self._written.disk)
        self._written.add([ManifestEntry(name, f"{SIZE_PREFIX}{size}") for name, size in sizes.items()])
        for name in self._shards():
            if name not in sizes and name in self._written.entries:
                self._written.folder.joinpath(name).unlink()  # of a run that had more images
        self._written.finish()
        return Outcome(failed=failed)


def _refuse_image(path: Path) -> None:
    """`UserError` where an image lies there, which is never written over."""
    try:
        with path.open("rb") as file:
            is_image = images.is_image(file.read(HEAD_BYTES))
    except OSError:
        return
    if is_image:
        raise UserError(f"{path.name} is an image, and nothing is written over it. Name another --output.")


def _is_of_lines(path: Path, ledger: OutputLog) -> bool:
    """Whether every caption of a table stands in the lines, so that nothing is lost with it. Versions that kept no list
    of what they wrote left such tables."""
    there = export.read_table(path)
    return there is not None and there <= {
        (record.file, record.language, record.caption or "") for record in ledger.records()
    }
