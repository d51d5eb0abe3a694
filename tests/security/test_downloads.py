"""A table has no cell that a spreadsheet evaluates, and a zip no name that hides what it is."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest

from blip_space.jobs import export
from blip_space.jobs.records import CaptionTask
from blip_space.jobs.spreadsheets import escape_formula, is_formula, unescape_formula, visible_name
from blip_space.options import GenerationOptions

TASK = CaptionTask("tiny", "fp32", "en", "", GenerationOptions())


@pytest.mark.parametrize("text", [
    "=1+1", "+1", "-1", "@a", "\ta", "\ra", "\n=1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20a", " =1", "\u00a0=1",
    "\u200b=1", "\u202e=1", "\ufeff=1", "  \uff1d1", "\ufe661",
])  # fmt: skip
def test_what_a_spreadsheet_may_evaluate_is_escaped(text: str) -> None:
    assert escape_formula(text) == f"'{text}"
    assert unescape_formula(escape_formula(text)) == text


@pytest.mark.parametrize("text", ["", " ", "a=1", "two red circles", "'=1", "三つ", "1-2", "…", "\u200d"])
def test_other_texts_stay(text: str) -> None:
    assert not is_formula(text)


def test_a_table_is_escaped_and_read_back(tmp_path: Path) -> None:
    record = TASK.record("\uff1d1.png", "digest", caption=" =1+1")
    table = export.as_csv([record])
    (row,) = csv.DictReader(io.StringIO(table.decode("utf-8-sig")))
    assert (row["file"], row["caption"]) == ("'\uff1d1.png", "' =1+1")
    (tmp_path / "c.csv").write_bytes(table)
    assert export.read_table(tmp_path / "c.csv") == {(record.file, "en", " =1+1")}


@pytest.mark.parametrize(("name", "shown"), [
    ("a\0b.txt", "a_b.txt"), ("a\nb.txt", "a_b.txt"), ("a\u202egnp.txt", "a_gnp.txt"), ("=a/=b.txt", "_a/_b.txt"),
    ("\uff1da.txt", "_a.txt"), ("a\u2028b.txt", "a_b.txt"), ("\ud800.txt", "_.txt"), ("a\u200f.txt", "a_.txt"),
    ("-a.txt", "-a.txt"), ("می\u200cروم.txt", "می\u200cروم.txt"), ("a = b.txt", "a = b.txt"),
])  # fmt: skip
def test_a_name_in_a_zip_shows_what_it_is(name: str, shown: str) -> None:
    assert visible_name(name) == shown


def test_each_caption_in_a_zip_has_a_name_of_its_own() -> None:
    files = ["a\0b.png", "a\nb.png", "a_b.png", "a_b (2).png"]
    records = [TASK.record(file, "digest", caption=str(number)) for number, file in enumerate(files)]
    with zipfile.ZipFile(io.BytesIO(export.as_zip(records))) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert texts == {"a_b.txt": "0", "a_b (2).txt": "1", "a_b (3).txt": "2", "a_b (2) (2).txt": "3"}
