"""Data sets for other libraries: an imagefolder for `datasets`, and COCO results for pycocoevalcap.

Depends on records, and on how those libraries treat names and texts. Must not import them, or anything that loads
models. Behaviour: datasets 5.2.0 with pyarrow, pycocoevalcap 1.2.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from blip_space.jobs.export import encode_json
from blip_space.jobs.records import CaptionRecord

METADATA, CARD = "metadata.jsonl", "README.md"

SPLIT_WORDS = re.compile(
    r"(?:^|[-._ 0-9/])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?=[-._ 0-9/]|$)"
)
"""Words in a name which make `datasets` read the file as a split and drop all others, captions included."""

LIKE_A_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d(?::?\d\d(?::?\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)

OTHER_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
UNLOADABLE = (
    "`datasets` cannot load a file with :: or a backslash in its name, and with :: nothing else in its folder. It is "
    "not in the data set. Rename it."
)
PATTERN_CHARACTERS = "[]*?{}"


def select_loadable(
    records: Sequence[CaptionRecord], folder: Path
) -> tuple[list[CaptionRecord], list[tuple[str, str]]]:
    """The records that `datasets` can load, and a message for each other file, which would make the data set fail."""
    loadable, failed = list[CaptionRecord](), list[tuple[str, str]]()
    for record in records:
        if "::" in record.file or "\\" in record.file:
            failed.append((record.file, UNLOADABLE))
        elif os.path.lexists(folder / record.file):
            loadable.append(record)
    return loadable, failed


def to_metadata(records: Sequence[CaptionRecord]) -> list[bytes]:
    """The lines of `metadata.jsonl`, each with `file_name` and the caption as `text`.

    If every caption looks like a date, pyarrow parses them as dates; a space after one of them prevents that.
    """
    rows = [(record.file, record.caption or "") for record in records]
    if rows and all(LIKE_A_DATE.fullmatch(text) for _, text in rows):
        rows[0] = (rows[0][0], f"{rows[0][1]} ")
    lines = [json.dumps({"file_name": file, "text": text}, ensure_ascii=False) + "\n" for file, text in rows]
    return [line.encode("utf-8", "replace") for line in lines]


def to_card(files: Iterable[str]) -> bytes:
    """A dataset card with which `load_dataset(DIR)` reads all images, and no other files, as one split."""
    extensions = sorted({PurePosixPath(file).suffix for file in files} - {""})
    paths = "".join(
        f"    - {json.dumps(path)}\n" for path in (METADATA, *(f"**/*{extension}" for extension in extensions))
    )
    lines = ["---", "configs:", "- config_name: default", "  data_files:", "  - split: train", "    path:"]
    return ("\n".join(lines) + f"\n{paths}---\n").encode("utf-8", "backslashreplace")


def describe_split(file: str, folder: Path, *, with_card: bool) -> str:
    """How to load a data set in which the name of a file looks like a split."""
    path = str(folder.resolve())
    by_card = f"load_dataset({path!r}), which reads {CARD}, or " if with_card else ""
    return (
        f"{file} has a word in its name that `datasets` reads as a split, dropping every caption. "
        f"Load with {by_card}load_dataset('imagefolder', data_files={{'train': {path + '/**'!r}}})."
    )


def find_obstacles(files: Iterable[str], folder: Path) -> list[str]:
    """Messages about anything that keeps `datasets` from loading the folder."""
    notes = []
    if any(letter in str(folder.resolve()) for letter in PATTERN_CHARACTERS):
        notes.append(
            f"{folder.resolve().name} is in a path with one of {PATTERN_CHARACTERS}, which `datasets` reads as "
            "a pattern. Rename it before loading."
        )
    for parent in sorted({str(PurePosixPath(file).parent) for file in files} | {"."}):
        for name in OTHER_METADATA:
            path = PurePosixPath(parent) / name
            if str(path) != METADATA and os.path.lexists(folder / path):
                notes.append(
                    f"{path} is beside the images, and `datasets` reads it as well. Move it away before loading."
                )
    return notes


def find_split_names(files: Iterable[str]) -> list[str]:
    """The names that `datasets` reads as a split."""
    return [file for file in files if SPLIT_WORDS.search(str(PurePosixPath(file).with_suffix("")))]


def to_coco(records: Sequence[CaptionRecord]) -> tuple[bytes, bytes]:
    """COCO results, a caption for each image id, and the table of images; `COCO(table).loadRes(results)` reads them."""
    numbered = list(enumerate(records, start=1))
    results = [{"image_id": number, "caption": record.caption} for number, record in numbered]
    images = [{"id": number, "file_name": record.file} for number, record in numbered]
    return encode_json(results), encode_json({"info": {}, "licenses": [], "images": images, "annotations": []})
