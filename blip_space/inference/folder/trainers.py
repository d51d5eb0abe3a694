"""Data sets in the forms that other libraries read: `datasets`' imagefolder, and COCO's results for pycocoevalcap.

Depends on records and on what those libraries do with names and texts; must not import them, or anything that loads
models. Behaviour: datasets 5.2.0 with pyarrow, pycocoevalcap 1.2.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from blip_space.inference.folder.record import Record

METADATA, CARD = "metadata.jsonl", "README.md"

SPLITTING = re.compile(
    r"(?:^|[-._ 0-9/])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?=[-._ 0-9/]|$)"
)
"""Words in a name for which `datasets` takes some files for a split and drops all others, captions too."""

LIKE_A_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d(?::?\d\d(?::?\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)

CARD_TEXT = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: "**"
---
"""
"""Has `load_dataset(DIR)` take every file for one split, whatever the names say."""


def metadata(records: Sequence[Record], folder: Path) -> list[bytes]:
    """The lines of `metadata.jsonl`: each image that is there, under `file_name`, and its caption as `text`.

    Where every caption looks like a date, pyarrow takes them all for dates; a space behind one keeps them texts.
    """
    rows = [(record.file, record.caption or "") for record in records if os.path.lexists(folder / record.file)]
    if rows and all(LIKE_A_DATE.fullmatch(text) for _, text in rows):
        rows[0] = (rows[0][0], f"{rows[0][1]} ")
    return [_line({"file_name": file, "text": text}) for file, text in rows]


def splitting(files: Iterable[str]) -> list[str]:
    """The names in which `datasets` reads a split."""
    return [file for file in files if SPLITTING.search(str(PurePosixPath(file).with_suffix("")))]


def coco(records: Sequence[Record]) -> tuple[bytes, bytes]:
    """COCO's results, one caption an image under a whole number; and the table that says which image that is.

    `COCO(table).loadRes(results)` reads them.
    """
    numbered = list(enumerate(records, start=1))
    results = [{"image_id": number, "caption": record.caption} for number, record in numbered]
    images = [{"id": number, "file_name": record.file} for number, record in numbered]
    return _json(results), _json({"info": {}, "licenses": [], "images": images, "annotations": []})


def _json(content: object) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace")


def _line(row: dict[str, str]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
