"""Converts records to files for download: JSON, JSON lines, CSV for spreadsheets, or a zip of text files.

Depends on records; must not import anything that loads models.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from blip_space.jobs.outputs.text_format import text_names
from blip_space.jobs.records import CaptionRecord
from blip_space.jobs.spreadsheets import escape_formula, unescape_formula, visible_name

COLUMNS = tuple(field.name for field in fields(CaptionRecord))

BOM = "\ufeff"


def as_json(records: Sequence[CaptionRecord]) -> bytes:
    """The records as one JSON array, in UTF-8."""
    return encode_json([asdict(record) for record in records])


def as_lines(records: Sequence[CaptionRecord]) -> bytes:
    """The records as JSON lines, the format of the output log."""
    return b"".join(record.to_json_line() for record in records)


def as_csv(records: Sequence[CaptionRecord]) -> bytes:
    """The records as a CSV table in UTF-8 with a byte order mark. It has no cell that a spreadsheet would evaluate."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in asdict(record).values()] for record in records)
    return _encode_utf8(BOM + table.getvalue())


def as_zip(records: Sequence[CaptionRecord]) -> bytes:
    """A zip with a text file for each caption. Images that would share a name keep their extension: `a.jpg.txt`."""
    captions = {record.file: record.caption for record in records if record.caption is not None}
    names, buffer = _names_in_zip(captions), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, caption in captions.items():
            archive.writestr(names[file], caption)
    return buffer.getvalue()


def _names_in_zip(files: Iterable[str]) -> dict[str, str]:
    """The text file of each image, under a name that shows what it is. Several may come to share one."""
    names = {file: visible_name(name) for file, name in text_names(files, ".txt").items()}
    taken: set[str] = set()
    for file, name in names.items():
        stem, number = name.removesuffix(".txt"), 1
        while names[file] in taken:
            number += 1
            names[file] = f"{stem} ({number}).txt"
        taken.add(names[file])
    return names


def read_table(path: Path) -> set[tuple[str, str, str]] | None:
    """The file, language and caption of each row of a JSON or CSV table, or None if this program did not write it."""
    try:
        text = path.read_text("utf-8").removeprefix(BOM)
        is_json = text.lstrip().startswith("[")
        rows = json.loads(text) if is_json else list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
        if any(not set(row) <= set(COLUMNS) for row in rows):
            return None  # a user added a column
        captions = {(row["file"], row["language"], row["caption"] or "") for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    if not captions:
        return None
    return (
        captions
        if is_json
        else {(unescape_formula(file), language, unescape_formula(text)) for file, language, text in captions}
    )


def encode_json(content: object) -> bytes:
    """`content` as a JSON document in UTF-8. Lone surrogates are escaped."""
    return _encode_utf8(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _encode_utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return escape_formula(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
