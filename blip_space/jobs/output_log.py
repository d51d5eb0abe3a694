"""The output log: a JSON-lines file of records, and which image already has a caption for which task.

A caption is found again by all that it depends on (`records.Key`). Lines that are no records stay as they are. Must not
import anything that reads images or loads models.
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

FileKey: TypeAlias = tuple[str, Key]
"""A file's name, and the key of one of its captions."""

RECORD_START = b'{"file": '


class OutputLog:
    """A context manager, opened by one job."""

    def __init__(
        self,
        path: Path,
        *,
        fingerprints: Mapping[str, str] = MappingProxyType({}),
        overwrite_edited: bool = False,
        disk: Disk | None = None,
    ) -> None:
        """`fingerprints` of models by name complete records that have the name only. With `overwrite_edited`, captions
        that a user corrected count as missing."""
        self.path = path.resolve()  # a linked output stays a link
        self.captioned: dict[Key, CaptionRecord] = {}
        """A record with a caption for every key that has one."""

        self.entries: set[FileKey] = set()
        """The files and keys that have a record, also one with an error."""

        self.errors: dict[FileKey, str] = {}
        """The error messages among them."""

        self.lacks_fingerprints = False
        """Whether any record was assigned to a model by its name alone."""

        self.superseded_error = ""
        """Why superseded records could not be removed; empty if they could."""

        self._fingerprints = fingerprints
        self._overwrite_edited = overwrite_edited
        self._disk = disk or Disk()
        self._count = 0
        self._started_over = False
        self._pending: list[CaptionRecord] | None = None
        self._captions: dict[FileKey, CaptionRecord] | None = None

    def __enter__(self) -> OutputLog:
        """`UserError` where the file cannot be written, is no output log, or is locked by another job."""
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
        """Append records. `UserError` where the disk is full; earlier records stay complete."""
        if self._pending is not None:
            self._pending += records
            if any(record.caption is not None for record in records):
                pending, self._pending = self._pending, None
                self._rewrite([*self._other_lines(), *(record.to_json_line() for record in pending)])
            return
        self._log.append(b"".join(record.to_json_line() for record in records))
        for record in records:
            self._index(record)

    def start_over(self) -> None:
        """Count all captions as missing, except corrected ones; they are removed once the first new one is appended."""
        self._captions, self._started_over = self._captions_by_task(), True
        edited = [] if self._overwrite_edited else [record for record in self.records() if record.edited]
        self._pending = list(edited) if self._captions else None  # errors alone replace no caption
        if self._pending is None:
            self._rewrite(self._other_lines())
        self._reset()
        for record in edited:
            self._index(record)

    def filter(self, predicate: Callable[[CaptionRecord], bool]) -> None:
        """Rewrite the file atomically with these records, and with the lines that are none."""
        self._rewrite([line for line, record in self._parsed_lines() if record is None or predicate(record)])

    def remove_superseded(self) -> None:
        """Drop the records of earlier contents of changed images; on a full disk all stay, see `superseded_error`."""
        if len({_without_digest(entry) for entry in self.entries}) == self._count:
            return
        lines = list[bytes]()
        records_by_task: dict[FileKey, dict[int, CaptionRecord]] = {}
        for number, (line, record) in enumerate(self._parsed_lines()):
            lines.append(line)
            if record:
                records_by_task.setdefault(_without_digest((record.file, record.key())), {})[number] = record
        kept = list(lines)
        for records in records_by_task.values():
            current = [lines[number] for number in self._current_numbers(records)]
            dropped = [b""] * (len(records) - len(current))
            for number, line in zip(records, [*current, *dropped], strict=True):  # COCO image ids follow the order
                kept[number] = line
        if kept == lines:
            return
        try:
            self._rewrite([line for line in kept if line])
        except UserError as error:
            self.superseded_error = str(error)

    def _current_numbers(self, records: Mapping[int, CaptionRecord]) -> list[int]:
        """Of all records of a file and task by their lines' numbers, those to keep: the captions of its last content,
        or its error. A file that could not be read counts as unchanged."""
        usable = {number: row for number, row in records.items() if _has_caption(row) or row.digest is not None}
        last_number, last = list((usable or records).items())[-1]
        captions = [number for number, row in usable.items() if row.digest == last.digest and _has_caption(row)]
        if self._overwrite_edited and not last.edited:
            captions = [number for number in captions if not records[number].edited]
        return captions or [last_number]

    def replace(self, changed: Callable[[CaptionRecord], CaptionRecord | None]) -> int:
        """Replace records by those that `changed` returns, keeping unknown keys of their lines; returns how many."""
        lines, count = [], 0
        for line, record in self._parsed_lines():
            new = changed(record) if record else None
            lines.append(json_line(json.loads(line) | asdict(new)) if new else line)
            count += new is not None
        if count:
            self._rewrite(lines)
        return count

    def records(self) -> Iterator[CaptionRecord]:
        """All records in order, each with its model's fingerprint where that is known."""
        return (record for _, record in self._parsed_lines() if record)

    def keep_previous(self, file_key: FileKey) -> bool:
        """Whether the file had a caption for the same task, whatever its content was; that caption stays."""
        if self._captions is None:
            self._captions = self._captions_by_task()
        record = self._captions.get(_without_digest(file_key))
        if record and self._started_over:
            previous = replace(record, file=file_key[0])
            if self._pending is None:
                self._log.append(previous.to_json_line())
                self._index(previous)
            else:
                self._pending.append(previous)
        return record is not None

    def sync(self) -> None:
        """Sync all records to the disk. `UserError` where that fails."""
        self._log.sync()

    def _rewrite(self, lines: Sequence[bytes]) -> None:
        self._log.rewrite(lines)
        self._reset()
        self._read()

    def _parsed_lines(self) -> Iterator[tuple[bytes, CaptionRecord | None]]:
        """Every line, and its record if it has one."""
        for line in self._log.lines():
            record = parse_record(line)
            yield line, self._with_fingerprint(record) if record else None

    def _other_lines(self) -> list[bytes]:
        return [line for line, record in self._parsed_lines() if record is None]

    def _with_fingerprint(self, record: CaptionRecord) -> CaptionRecord:
        if record.fingerprint or not (fingerprint := self._fingerprints.get(record.model, "")):
            return record
        self.lacks_fingerprints = True
        return replace(record, fingerprint=fingerprint)

    def _read(self) -> None:
        for record in self.records():
            self._index(record)
        if not self._count and any(line.strip(b"\0\r\n ") for line in self._other_lines()):
            raise UserError(
                f"{self.path.name} is not an output of this command and is not overwritten. Name another --output."
            )

    def _reset(self) -> None:
        self.captioned, self.entries, self.errors, self._count = {}, set(), {}, 0

    def _index(self, record: CaptionRecord) -> None:
        self._count += 1
        if (record.edited and self._overwrite_edited) or (record.error is None and not _has_caption(record)):
            return
        key = record.key()
        entry = (record.file, key)
        self.entries.add(entry)
        if record.error is not None:
            self.errors[entry] = record.error
        else:
            self.errors.pop(entry, None)
            self.captioned[key] = record

    def _captions_by_task(self) -> dict[FileKey, CaptionRecord]:
        return {
            _without_digest((file, key)): self.captioned[key]
            for file, key in self.entries
            if (file, key) not in self.errors
        }


def _without_digest(file_key: FileKey) -> FileKey:
    """The file and key for any content of the file."""
    file, key = file_key
    return file, ("", *key[1:])


def _has_caption(record: CaptionRecord) -> bool:
    """Whether it has a caption; an earlier version accepted blank ones."""
    return record.caption is not None and not is_blank(record.caption)


def _is_partial(tail: bytes) -> bool:
    """Whether this is the beginning of a record, or zeros that a crash left."""
    content = tail.rstrip(b"\0")
    return parse_record(tail.removeprefix(BOM)) is None and (
        content.startswith(RECORD_START) or RECORD_START.startswith(content)
    )
