"""Converts records to files for download: JSON, JSON lines, CSV for spreadsheets, or a zip of text files.

Depends on records; must not import anything that loads models.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from blip_space.jobs.outputs.text_format import text_names
from blip_space.jobs.records import CaptionRecord

COLUMNS = tuple(field.name for field in fields(CaptionRecord))

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet evaluates cells that begin with one of these: https://owasp.org/www-community/attacks/CSV_Injection."""

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
    names, buffer = text_names(captions, ".txt"), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, caption in captions.items():
            archive.writestr(names[file], caption)
    return buffer.getvalue()


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
    return captions if is_json else {(_unescape(file), language, _unescape(text)) for file, language, text in captions}


def encode_json(content: object) -> bytes:
    """`content` as a JSON document in UTF-8. Lone surrogates are escaped."""
    return _encode_utf8(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _encode_utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _unescape(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text
