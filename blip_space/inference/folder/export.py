"""What a ledger holds, in the forms that others read: JSON, lines of it, CSV for spreadsheets, a text file a picture.

Knows forms; knows no model. Every file is written whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path, PurePosixPath

from blip_space.inference.folder.record import Record

COLUMNS = tuple(field.name for field in fields(Record))

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula: https://owasp.org/www-community/attacks/CSV_Injection."""


def write_json(records: Sequence[Record], file: Path) -> None:
    """One array of records."""
    _whole(file, json.dumps([asdict(record) for record in records], ensure_ascii=False, indent=1) + "\n")


def write_lines(records: Sequence[Record], file: Path) -> None:
    """One record a line, as `folder` writes them."""
    _whole(file, "".join(record.line() for record in records))


def write_csv(records: Sequence[Record], file: Path) -> None:
    """A table that opens right in a spreadsheet in every script, with no cell that is a formula."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in asdict(record).values()] for record in records)
    _whole(file, "\ufeff" + table.getvalue())


def write_texts(records: Sequence[Record], folder: Path, *, prefix: str = "", suffix: str = "") -> None:
    """A `.txt` beside each picture that has a caption, as training tools want it."""
    for record in records:
        if record.caption is not None:
            _whole((folder / record.file).with_suffix(".txt"), f"{prefix}{record.caption}{suffix}")


def write_zip(records: Sequence[Record], file: Path) -> None:
    """The same text files in a zip; where two pictures would share one, each keeps its ending before `.txt`."""
    captions = {PurePosixPath(record.file): record.caption for record in records if record.caption is not None}
    stems = Counter(name.with_suffix("") for name in captions)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, caption in captions.items():
            shared = stems[name.with_suffix("")] > 1
            archive.writestr(str(name.with_suffix(f"{name.suffix}.txt" if shared else ".txt")), caption)


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


def _whole(file: Path, text: str) -> None:
    draft = file.with_name(f"{file.name}.draft")
    draft.write_text(text, encoding="utf-8", newline="")
    draft.replace(file)
