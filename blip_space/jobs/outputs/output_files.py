"""Writes the files that a folder job makes from its records in a format, after a check that they may be written.

Depends on the format modules and manifests; must not import anything that loads models.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from blip_space.errors import UserError
from blip_space.jobs import export
from blip_space.jobs.durable_files import is_file
from blip_space.jobs.folder_listing import looks_like_image
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.outputs import dataset_formats, shards
from blip_space.jobs.outputs.manifest import SIZE_PREFIX, Manifest, ManifestEntry, Manifests, check_regular_file
from blip_space.jobs.outputs.text_files import Outcome, TextFiles, describe_os_error
from blip_space.jobs.outputs.text_format import TextFormat
from blip_space.jobs.records import CaptionRecord

FORMATS = ("jsonl", "json", "csv", "txt", "imagefolder", "coco", "webdataset")
SINGLE_CAPTION_FORMATS = frozenset({"txt", "imagefolder", "coco", "webdataset"})
"""The formats that have only one caption for each image, so that a job can have only one language."""

HINT = "Rename it, name another --output, or overwrite it with --overwrite-edited."


class OutputFiles:
    """The files that a job makes from its records in one format."""

    def __init__(
        self, output_format: str, path: Path, folder: Path, *, text_format: TextFormat, overwrite_edited: bool = False
    ) -> None:
        """`path` is the value of `--output`; `folder` has the images. `UserError` if `path` cannot be a file."""
        self.format = output_format
        self.folder = folder
        try:
            self.path = path.resolve()
        except (OSError, RuntimeError):
            raise UserError(f"{path.name} is a circular link. Name another --output.") from None
        check_regular_file(self.path)
        self.manifests = Manifests(folder)
        """The manifests of the image folders, which list the files that this program wrote beside the images."""

        self.overwrite_edited = overwrite_edited
        self.texts = TextFiles(self.manifests, text_format, log_path=self.log_path)
        is_beside_images = output_format == "imagefolder"
        self._manifest = self.manifests.at(dataset_formats.METADATA) if is_beside_images else Manifest(self.path.parent)

    @property
    def log_path(self) -> Path:
        """The path of the output log: that of the output if it can hold records, else beside it with `.jsonl` added."""
        if self.format in ("jsonl", "txt"):
            return self.path
        if self.format == "imagefolder" and self.path != (self.folder / dataset_formats.METADATA).resolve():
            return self.path
        return self.path.with_name(f"{self.path.name}.jsonl")

    @property
    def files(self) -> list[Path]:
        """The resolved paths of all files that the job writes. If in the folder, they must not be taken for images."""
        return [self.log_path, *((self._manifest.folder / name).resolve() for name in self._names())]

    def check(self, output_log: OutputLog) -> None:
        """`UserError` if a file to write is a user's (or an image), or if the folder cannot be written to."""
        names = {*self._names(), *self._shards()}
        for path in (self._manifest.folder / name for name in names):
            check_regular_file(path)
            if looks_like_image(path):
                raise UserError(f"{path.name} is an image and is not overwritten. Name another --output.")
        for name in () if self.overwrite_edited else sorted(names):
            self._manifest.check_replaceable(name, way_out=HINT, unless=lambda path: _is_in_log(path, output_log))
        if names and not os.access(self._manifest.folder, os.W_OK | os.X_OK):
            raise UserError(f"The folder of {min(names)} cannot be written to. Check its permissions.")

    def write(self, records: Sequence[CaptionRecord], *, unreadable: Collection[str] = ()) -> Outcome:
        """Write the files. `records` are those of the job, in order. Data sets leave out the images in `unreadable`."""
        if self.format == "jsonl":
            return Outcome()
        if self.format == "txt":
            return self.texts.write(records, overwrite_edited=self.overwrite_edited)
        usable = [record for record in records if (record.caption or "").strip() and record.file not in unreadable]
        try:
            if self.format == "json":
                return self._write_files(export.as_json(records))
            if self.format == "csv":
                return self._write_files(export.as_csv(records))
            if self.format == "coco":
                return self._write_files(*dataset_formats.to_coco(usable))
            return self._imagefolder(usable) if self.format == "imagefolder" else self._webdataset(usable)
        except OSError as error:
            message = f"It was not written: {describe_os_error(error)} All captions are saved in {self.log_path.name}."
            return Outcome(failed=[(self._names()[0], message)])

    def _names(self) -> list[str]:
        """The names of the files to write, without the output log; of several shards only the first."""
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
        """The names of the shards that exist already, by an earlier run."""
        if self.format != "webdataset":
            return []
        pattern = shards.shard_pattern(self.path)
        return [name for name in sorted(os.listdir(self.path.parent)) if pattern.fullmatch(name)]  # noqa: PTH208

    def _write_files(self, *contents: bytes) -> Outcome:
        for name, content in zip(self._names(), contents, strict=True):
            self._manifest.replace(name, content)
        return Outcome()

    def _imagefolder(self, records: Sequence[CaptionRecord]) -> Outcome:
        loadable, failed = dataset_formats.select_loadable(records, self.folder)
        self._manifest.replace(dataset_formats.METADATA, b"".join(dataset_formats.to_metadata(loadable)))
        files = [record.file for record in loadable]
        notes = dataset_formats.find_obstacles(files, self.folder)
        if splitting := dataset_formats.find_split_names(files):
            notes.append(dataset_formats.describe_split(splitting[0], self.folder, with_card=self._write_card(files)))
        return Outcome(failed=failed, notes=notes)

    def _write_card(self, files: Sequence[str]) -> bool:
        """Write the dataset card. Returns False if a user wrote one, or if it cannot be written."""
        card = self.folder / dataset_formats.CARD
        try:
            if is_file(card) and not self._manifest.is_ours(dataset_formats.CARD, card.read_bytes()):
                return False
            self._manifest.replace(dataset_formats.CARD, dataset_formats.to_card(files))
        except OSError:
            return False
        return True

    def _webdataset(self, records: Sequence[CaptionRecord]) -> Outcome:
        sizes, failed = shards.write_shards(records, self.folder, self.path, self._manifest.disk)
        self._manifest.add([ManifestEntry(name, f"{SIZE_PREFIX}{size}") for name, size in sizes.items()])
        for name in self._shards():
            if name not in sizes and name in self._manifest.entries:
                self._manifest.folder.joinpath(name).unlink()  # from a run with more images
        self._manifest.finish()
        return Outcome(failed=failed)


def _is_in_log(path: Path, output_log: OutputLog) -> bool:
    """Whether every caption of the table `path` is in the log, so that nothing is lost with the table. Versions before
    the manifest did not list the tables that they wrote."""
    captions = export.read_table(path)
    return captions is not None and captions <= {
        (record.file, record.language, record.caption or "") for record in output_log.records()
    }
