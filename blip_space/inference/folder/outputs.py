"""What a folder job makes of its lines and where: which files those are, and whether they may be written.

Depends on the forms and on what was written before; must not import anything that loads models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blip_space.errors import UserError
from blip_space.inference.folder import export, shards, trainers
from blip_space.inference.folder.disk import is_folder
from blip_space.inference.folder.ledger import Ledger
from blip_space.inference.folder.record import Record
from blip_space.inference.folder.texts import TextForm, Texts, reason
from blip_space.inference.folder.written import OURS, Entry, WrittenFiles

FORMATS = ("jsonl", "json", "csv", "txt", "imagefolder", "coco", "webdataset")
ONE_CAPTION = frozenset({"txt", "imagefolder", "coco", "webdataset"})
"""Forms that hold one caption an image, so one language."""

WAY_OUT = "Rename it, name another --output, or write over it with --overwrite-edited."


@dataclass
class Outcome:
    """What became of it: names of files that were left as a person made them, what was not written and why, and what
    else a person has to know."""

    kept: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Output:
    """One form of a job's captions."""

    def __init__(self, form: str, path: Path, folder: Path, *, texts: TextForm, over_edited: bool = False) -> None:
        """`path` is what `--output` names, which is a `UserError` for a folder; in `folder` the images lie."""
        if is_folder(path):
            raise UserError(f"{path.resolve().name or path} is a folder. Name a file with --output.")
        self.form = form
        self.folder = folder
        self.path = path.resolve()
        self.in_folder = WrittenFiles(folder)
        """What was written beside the images."""

        self.texts = Texts(folder, texts, self.in_folder)
        self.over_edited = over_edited
        beside = form in ("txt", "imagefolder")
        self._written = self.in_folder if beside else WrittenFiles(self.path.parent)

    @property
    def ledger(self) -> Path:
        """Lines are appended to a file of lines, whatever is made of it at the end."""
        if self.form in ("jsonl", "txt"):
            return self.path
        if self.form == "imagefolder" and self.path != (self.folder / trainers.METADATA).resolve():
            return self.path
        return self.path.with_name(f"{self.path.name}.jsonl")

    @property
    def files(self) -> list[Path]:
        """What this job writes, resolved: no image, whatever lies among the images."""
        return [self.ledger, *((self._written.folder / name).resolve() for name in self._names())]

    def check(self, ledger: Ledger) -> None:
        """`UserError` where a file that is to be made is there, and is not as we made it."""
        for name in [] if self.over_edited else self._names():
            self._written.refuse(name, way_out=WAY_OUT, unless=lambda path: _is_of_lines(path, ledger))

    def write(self, records: Sequence[Record], *, unreadable: Collection[str] = ()) -> Outcome:
        """Make it, of the job's own records in their order. Data sets hold no image that is `unreadable` now."""
        if self.form == "jsonl":
            return Outcome()
        if self.form == "txt":
            made = self.texts.write(records, over_edited=self.over_edited)
            return Outcome(made.kept, made.failed)
        usable = [record for record in records if (record.caption or "").strip() and record.file not in unreadable]
        try:
            return self._writers()[self.form](records if self.form in ("json", "csv") else usable)
        except OSError as error:
            told = f"It was not written: {reason(error)} The captions themselves are saved in {self.ledger.name}."
            return Outcome(failed=[(self._names()[0], told)])

    def _names(self) -> list[str]:
        """The files beside the ledger, relative to where they are written."""
        if self.form in ("json", "csv"):
            return [self.path.name]
        if self.form == "imagefolder":
            return [trainers.METADATA]
        if self.form == "coco":
            return [self.path.name, f"{self.path.stem}.images.json"]
        if self.form == "webdataset":
            return [shards.shard_name(self.path, 0)]
        return []

    def _writers(self) -> dict[str, Callable[[Sequence[Record]], Outcome]]:
        return {
            "json": lambda records: self._whole([export.as_json(records)]),
            "csv": lambda records: self._whole([export.as_csv(records)]),
            "imagefolder": self._imagefolder,
            "coco": lambda records: self._whole(trainers.coco(records)),
            "webdataset": self._webdataset,
        }

    def _whole(self, contents: Sequence[bytes]) -> Outcome:
        for name, content in zip(self._names(), contents, strict=True):
            self._written.replace(name, content)
        return Outcome()

    def _imagefolder(self, records: Sequence[Record]) -> Outcome:
        self._written.replace(trainers.METADATA, b"".join(trainers.metadata(records, self.folder)))
        return Outcome(notes=list(self._split_note(records)))

    def _split_note(self, records: Sequence[Record]) -> Iterator[str]:
        names = trainers.splitting(record.file for record in records)
        if not names:
            return
        card = self.folder / trainers.CARD
        is_ours = not card.exists() or self._written.wrote(trainers.CARD, card.read_bytes())
        if is_ours:
            self._written.replace(trainers.CARD, trainers.CARD_TEXT.encode())
        by_card = f"load_dataset({str(self.folder)!r}), which reads {trainers.CARD}, or " if is_ours else ""
        yield (
            f"{names[0]} has a word in its name for which `datasets` makes a split of its own and drops every caption. "
            f"Load with {by_card}load_dataset('imagefolder', data_files={{'train': {str(self.folder / '**')!r}}})."
        )

    def _webdataset(self, records: Sequence[Record]) -> Outcome:
        first = self._names()[0]
        self._written.add([Entry(first, OURS)])
        names, failed = shards.write(records, self.folder, self.path, self._written.disk)
        self._written.add([Entry(name, OURS) for name in names])
        number = len(names)
        while (surplus := shards.shard_name(self.path, number)) in self._written.entries:
            self._written.folder.joinpath(surplus).unlink(missing_ok=True)  # of a run that had more images
            number += 1
        return Outcome(failed=failed)


def _is_of_lines(path: Path, ledger: Ledger) -> bool:
    """Whether every caption of a table stands in the lines, so that nothing is lost with it. Versions that kept no list
    of what they wrote left such tables."""
    there = export.captions_of(path)
    return there is not None and there <= {
        (record.file, record.language, record.caption or "") for record in ledger.records()
    }
