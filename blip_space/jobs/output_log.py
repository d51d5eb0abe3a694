"""What the file of lines says: which images have a line for which question, and what was answered.

Lines that are no records of ours stay as they are, and what was done is found again by what it depends on. Depends on
lines; must not import anything that reads images or loads models.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from blip_space.engine.answer_check import is_blank
from blip_space.errors import UserError
from blip_space.jobs.durable_files import Disk
from blip_space.jobs.log_file import BOM, LogFile
from blip_space.jobs.records import CaptionRecord, Key, json_line, parse_record

Place: TypeAlias = tuple[str, Key]
"""A file's name and what its line answers."""

LINE_BEGINS = b'{"file": '


class OutputLog:
    """Opened for one job; a context manager."""

    def __init__(
        self,
        path: Path,
        *,
        fingerprints: Mapping[str, str] = MappingProxyType({}),
        overwrite_edited: bool = False,
        disk: Disk | None = None,
    ) -> None:
        """`identities` are the fingerprints of models by their name, for lines that know the name only. With
        `forget_edited` a caption that a person corrected is one that is still to be written."""
        self.path = path.resolve()  # a linked output stays a link
        self.captioned: dict[Key, CaptionRecord] = {}
        """A captioned record for everything that was asked before."""

        self.entries: set[Place] = set()
        """Which files have a line, for which question; errors are lines too."""

        self.errors: dict[Place, str] = {}
        """Of those, the errors."""

        self.lacks_fingerprints = False
        """Whether lines count as a model's by its name alone."""

        self.superseded_error = ""
        """Why lines that were superseded still stand, where they do."""

        self._identities = fingerprints
        self._forget_edited = overwrite_edited
        self._disk = disk or Disk()
        self._count = 0
        self._is_begun_again = False
        self._held: list[CaptionRecord] | None = None
        self._captions: dict[Place, CaptionRecord] | None = None

    def __enter__(self) -> OutputLog:
        """`UserError` where the place cannot be written to, holds something else, or another job writes there."""
        self._log = LogFile(self.path, self._disk)
        try:
            if next(self._log.lines(), b"").startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise UserError(f"{self.path.name} was saved as UTF-16. Save it as UTF-8, or name another --output.")
            self._log.drop_partial_line(_is_partial)
            self._read()
        except BaseException:
            self._log.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()

    def append(self, records: Sequence[CaptionRecord]) -> None:
        """Write these lines. `UserError` when the disk is full; nothing whole is lost."""
        if self._held is not None:
            self._held += records
            if any(record.caption is not None for record in records):
                held, self._held = self._held, None
                self._rewrite([*self._foreign(), *(record.to_json_line() for record in held)])
            return
        self._log.append(b"".join(record.to_json_line() for record in records))
        for record in records:
            self._note(record)

    def start_over(self) -> None:
        """Everything is still to be done but what a person corrected; the captions that are there go when the first new
        one is there."""
        self._captions, self._is_begun_again = self._captioned(), True
        edited = [] if self._forget_edited else [record for record in self.records() if record.edited]
        self._held = list(edited) if self._captions else None  # errors alone displace no caption
        if self._held is None:
            self._rewrite(self._foreign())
        self._forget()
        for record in edited:
            self._note(record)

    def filter(self, wanted: Callable[[CaptionRecord], bool]) -> None:
        """Write the file again with these records alone, and with what is none, at once or not at all."""
        self._rewrite([line for line, record in self._entries() if record is None or wanted(record)])

    def remove_superseded(self) -> None:
        """Of an image that was changed since, the later lines stay. Where the disk has no room for that, all do."""
        if len({_question(place) for place in self.entries}) == self._count:
            return
        lines = list[bytes]()
        places: dict[Place, list[int]] = {}
        records: dict[int, CaptionRecord] = {}
        for number, (line, record) in enumerate(self._entries()):
            lines.append(line)
            if record:
                places.setdefault(_question((record.file, record.key())), []).append(number)
                records[number] = record
        order = list(range(len(lines)))
        for numbers in places.values():
            kept = self._kept([records[number] for number in numbers])
            for number, taken in zip(numbers, [*kept, *[None] * (len(numbers) - len(kept))], strict=True):
                order[number] = (
                    -1 if taken is None else numbers[taken]
                )  # from the first place on: numbers made of it stay
        if order == list(range(len(lines))):
            return
        try:
            self._rewrite([lines[number] for number in order if number >= 0])
        except UserError as error:
            self.superseded_error = str(error)

    def _kept(self, records: Sequence[CaptionRecord]) -> list[int]:
        """Which of the lines that answer one question stay: the captions of what the file showed last, or its error. A
        file that nobody could read shows what it showed before."""
        usable = [place for place, record in enumerate(records) if _is_caption(record) or record.digest is not None]
        if not usable:
            return [len(records) - 1]
        last = records[usable[-1]]
        captions = [place for place in usable if records[place].digest == last.digest and _is_caption(records[place])]
        if self._forget_edited and not last.edited:
            captions = [place for place in captions if not records[place].edited]
        return captions or [usable[-1]]

    def replace(self, changed: Callable[[CaptionRecord], CaptionRecord | None]) -> int:
        """Write other records in the place of those for which `changed` has one, with whatever else is in their lines;
        how many there were."""
        lines, count = [], 0
        for line, record in self._entries():
            other = changed(record) if record else None
            lines.append(json_line(json.loads(line) | asdict(other)) if other else line)
            count += other is not None
        if count:
            self._rewrite(lines)
        return count

    def records(self) -> Iterator[CaptionRecord]:
        """All lines that hold a record, in order, each with its model's fingerprint where that is known."""
        return (record for _, record in self._entries() if record)

    def keep_previous(self, place: Place) -> bool:
        """Whether the file was captioned before for the same question, whatever it showed then; that caption stays."""
        if self._captions is None:
            self._captions = self._captioned()
        record = self._captions.get(_question(place))
        if record and self._is_begun_again:
            kept = replace(record, file=place[0])
            if self._held is None:
                self._log.append(kept.to_json_line())
                self._note(kept)
            else:
                self._held.append(kept)
        return record is not None

    def sync(self) -> None:
        """Have all lines on the disk. `UserError` where the disk does not take them."""
        self._log.sync()

    def _rewrite(self, lines: Sequence[bytes]) -> None:
        self._log.rewrite(lines)
        self._forget()
        self._read()

    def _entries(self) -> Iterator[tuple[bytes, CaptionRecord | None]]:
        """Every line with the record that it holds."""
        for line in self._log.lines():
            record = parse_record(line)
            yield line, self._identified(record) if record else None

    def _foreign(self) -> list[bytes]:
        return [line for line, record in self._entries() if record is None]

    def _identified(self, record: CaptionRecord) -> CaptionRecord:
        if record.fingerprint or not (fingerprint := self._identities.get(record.model, "")):
            return record
        self.lacks_fingerprints = True
        return replace(record, fingerprint=fingerprint)

    def _read(self) -> None:
        for record in self.records():
            self._note(record)
        if not self._count and any(line.strip(b"\0\r\n ") for line in self._foreign()):
            raise UserError(
                f"{self.path.name} holds something else than the lines of this command, and nothing of it is written "
                "over. Name another --output."
            )

    def _forget(self) -> None:
        self.captioned, self.entries, self.errors, self._count = {}, set(), {}, 0

    def _note(self, record: CaptionRecord) -> None:
        self._count += 1
        if (record.edited and self._forget_edited) or (record.error is None and not _is_caption(record)):
            return
        key = record.key()
        line = (record.file, key)
        self.entries.add(line)
        if record.error is not None:
            self.errors[line] = record.error
        else:
            self.errors.pop(line, None)
            self.captioned[key] = record

    def _captioned(self) -> dict[Place, CaptionRecord]:
        return {
            _question((file, key)): self.captioned[key] for file, key in self.entries if (file, key) not in self.errors
        }


def _question(place: Place) -> Place:
    """A file and what is asked of it, whatever the file shows."""
    file, key = place
    return file, ("", *key[1:])


def _is_caption(record: CaptionRecord) -> bool:
    """Whether it answers; an earlier version took an answer that shows nothing for a caption."""
    return record.caption is not None and not is_blank(record.caption)


def _is_partial(tail: bytes) -> bool:
    """Whether a line that was not written to its end, or space that a crash left without its content."""
    bare = tail.rstrip(b"\0")
    return parse_record(tail.removeprefix(BOM)) is None and (
        bare.startswith(LINE_BEGINS) or LINE_BEGINS.startswith(bare)
    )
