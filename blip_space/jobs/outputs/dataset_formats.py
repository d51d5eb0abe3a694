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

from blip_space.jobs.records import CaptionRecord

METADATA, CARD = "metadata.jsonl", "README.md"

SPLITTING = re.compile(
    r"(?:^|[-._ 0-9/])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?=[-._ 0-9/]|$)"
)
"""Words in a name for which `datasets` takes some files for a split and drops all others, captions too."""

LIKE_A_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d(?::?\d\d(?::?\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)

OTHER_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
UNLOADABLE = (
    "`datasets` loads no file with :: or a backslash in its name, and with :: nothing of the folder while it is there. "
    "It is not in the data set. Rename it."
)
PATTERN_LETTERS = "[]*?{}"


def select_loadable(
    records: Sequence[CaptionRecord], folder: Path
) -> tuple[list[CaptionRecord], list[tuple[str, str]]]:
    """The records whose images `datasets` finds under their names, and the others with a sentence: one of them would
    make the whole data set fail."""
    taken, failed = list[CaptionRecord](), list[tuple[str, str]]()
    for record in records:
        if "::" in record.file or "\\" in record.file:
            failed.append((record.file, UNLOADABLE))
        elif os.path.lexists(folder / record.file):
            taken.append(record)
    return taken, failed


def to_metadata(records: Sequence[CaptionRecord]) -> list[bytes]:
    """The lines of `metadata.jsonl`: each image under `file_name`, and its caption as `text`.

    Where every caption looks like a date, pyarrow takes them all for dates; a space behind one keeps them texts.
    """
    rows = [(record.file, record.caption or "") for record in records]
    if rows and all(LIKE_A_DATE.fullmatch(text) for _, text in rows):
        rows[0] = (rows[0][0], f"{rows[0][1]} ")
    return [_line({"file_name": file, "text": text}) for file, text in rows]


def to_card(files: Iterable[str]) -> bytes:
    """A card by which `load_dataset(DIR)` takes every image, and no other file, for one split."""
    endings = sorted({PurePosixPath(file).suffix for file in files} - {""})
    paths = "".join(f"    - {json.dumps(path)}\n" for path in (METADATA, *(f"**/*{ending}" for ending in endings)))
    lines = ["---", "configs:", "- config_name: default", "  data_files:", "  - split: train", "    path:"]
    return ("\n".join(lines) + f"\n{paths}---\n").encode("utf-8", "backslashreplace")


def describe_split(file: str, folder: Path, *, with_card: bool) -> str:
    """The calls that load a data set of which a name would make a split of its own."""
    place = str(folder.resolve())
    by_card = f"load_dataset({place!r}), which reads {CARD}, or " if with_card else ""
    return (
        f"{file} has a word in its name for which `datasets` makes a split of its own and drops every caption. "
        f"Load with {by_card}load_dataset('imagefolder', data_files={{'train': {place + '/**'!r}}})."
    )


def find_obstacles(files: Iterable[str], folder: Path) -> list[str]:
    """What in the folder keeps `datasets` from loading it as it is."""
    notes = []
    if any(letter in str(folder.resolve()) for letter in PATTERN_LETTERS):
        notes.append(
            f"{folder.resolve().name} is in a path with one of {PATTERN_LETTERS}, which `datasets` takes for a "
            "pattern. Rename it before loading."
        )
    for place in sorted({str(PurePosixPath(file).parent) for file in files} | {"."}):
        for name in OTHER_METADATA:
            path = PurePosixPath(place) / name
            if str(path) != METADATA and os.path.lexists(folder / path):
                notes.append(
                    f"{path} lies among the images, and `datasets` reads it as well. Move it away before loading."
                )
    return notes


def find_split_names(files: Iterable[str]) -> list[str]:
    """The names in which `datasets` reads a split."""
    return [file for file in files if SPLITTING.search(str(PurePosixPath(file).with_suffix("")))]


def to_coco(records: Sequence[CaptionRecord]) -> tuple[bytes, bytes]:
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
