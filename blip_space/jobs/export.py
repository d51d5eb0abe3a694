"""What a job's lines say, in the forms that people read: JSON, lines, CSV for spreadsheets, a zip of text files.

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
"""What a spreadsheet takes for the beginning of a formula: https://owasp.org/www-community/attacks/CSV_Injection."""

BOM = "\ufeff"


def as_json(records: Sequence[CaptionRecord]) -> bytes:
    """One array of records."""
    return _encoded(json.dumps([asdict(record) for record in records], ensure_ascii=False, indent=1) + "\n")


def as_lines(records: Sequence[CaptionRecord]) -> bytes:
    """One record a line, as `folder` writes them."""
    return b"".join(record.to_json_line() for record in records)


def as_csv(records: Sequence[CaptionRecord]) -> bytes:
    """A table that opens right in a spreadsheet in every script, with no cell that is a formula."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in asdict(record).values()] for record in records)
    return _encoded(BOM + table.getvalue())


def as_zip(records: Sequence[CaptionRecord]) -> bytes:
    """A text file for each caption; where two images would share one, each keeps its own ending before `.txt`."""
    captions = {record.file: record.caption for record in records if record.caption is not None}
    names, packed = text_names(captions, ".txt"), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, caption in captions.items():
            archive.writestr(names[file], caption)
    return packed.getvalue()


def read_table(path: Path) -> set[tuple[str, str, str]] | None:
    """File, language and caption of every row of a table of ours; None where it is no such table."""
    try:
        text = path.read_text("utf-8").removeprefix(BOM)
        is_json = text.lstrip().startswith("[")
        rows = json.loads(text) if is_json else list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
        if any(not set(row) <= set(COLUMNS) for row in rows):
            return None  # a person added what the lines do not have
        found = {(row["file"], row["language"], row["caption"] or "") for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    if not found:
        return None
    return found if is_json else {(_uncelled(file), language, _uncelled(text)) for file, language, text in found}


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _uncelled(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text
