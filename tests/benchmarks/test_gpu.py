"""`benchmarks.gpu` on a CPU: its dry run measures every section, and its report survives what can happen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import devices
from benchmarks.gpu import __main__ as program
from benchmarks.gpu.setup import Clock, Row, Section, Setup, ids_of, words_of

ROOT = Path(__file__).resolve().parent.parent.parent
CPU = Setup("cpu", is_dry_run=True)


def test_a_dry_run_measures_every_section(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--json", str(file)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    results = json.loads(file.read_text("utf-8"))
    sections = results["sections"]
    assert results["dry_run"] is True
    assert tuple(sections) == program.ORDER
    assert {name: part["note"] for name, part in sections.items() if part["note"] or not part["rows"]} == {}
    rows = sum(len(part["rows"]) + 2 for part in sections.values())
    assert sum(line.startswith("|") for line in run.stdout.splitlines()) == rows
    assert "does not load" not in run.stdout
    assert all(row["equal"] == "4 of 4" for row in sections["equality"]["rows"])
    loop = [row["equal first answers"] for name in ("users", "more-users") for row in sections[name]["rows"]]
    assert loop == ["4 of 4 tokens"] * 4


def section(name: str, *rows: Row | Exception) -> Section:
    """Yields the rows; an exception is raised."""

    def measure(_: Setup) -> Iterator[Row]:
        for row in rows:
            if isinstance(row, Exception):
                raise row
            yield row

    return Section(name, name.title(), measure)


def test_a_section_that_fails_keeps_its_rows_and_the_next_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.json"
    sections = section("first", {"rows": 1}, ValueError("odd | shape")), section("second", {"rows": 2, "step": 0.12345})
    assert program.Report("cpu", file).run(sections, CPU, Clock(1)) == 1
    saved = json.loads(file.read_text("utf-8"))["sections"]
    assert saved["first"]["rows"] == [{"rows": 1}]
    assert saved["first"]["note"] == "failed: ValueError: odd | shape"
    assert saved["second"]["rows"] == [{"rows": 2, "step": 0.12345}]
    assert "| rows | step |\n|--:|--:|\n| 2 | 0.123 |" in capsys.readouterr().out


def test_every_row_is_saved_before_the_next_is_measured(tmp_path: Path) -> None:
    file, saved = tmp_path / "gpu.json", list[Any]()

    def measure(_: Setup) -> Iterator[Row]:
        yield {"rows": 1}
        saved.append(json.loads(file.read_text("utf-8"))["sections"]["steps"]["rows"])
        yield {"rows": 16}

    assert program.Report("cpu", file).run([Section("steps", "Steps", measure)], CPU, Clock(1)) == 0
    assert saved == [[{"rows": 1}]]


def test_nothing_begins_once_the_time_is_over(tmp_path: Path) -> None:
    file, now = tmp_path / "gpu.json", [0.0]

    def measure(_: Setup) -> Iterator[Row]:
        for rows in (1, 16, 64):
            now[0] += 40
            yield {"rows": rows}

    sections = Section("steps", "Steps", measure), section("late", AssertionError("it began"))
    assert program.Report("cpu", file).run(sections, CPU, Clock(1, lambda: now[0])) == 0
    saved = json.loads(file.read_text("utf-8"))["sections"]
    assert saved["steps"]["rows"] == [{"rows": 1}, {"rows": 16}]
    assert [part["note"] for part in saved.values()] == ["the time was over"] * 2


def test_a_run_ends_when_the_gpu_stops_working(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "works", lambda _: False)
    sections = section("first", RuntimeError("device-side assert")), section("second", AssertionError("it began"))
    report = program.Report("cpu", None)
    assert report.run(sections, CPU, Clock(1)) == program.DEVICE_LOST
    assert list(report.results["sections"]) == ["first"]


def test_without_a_gpu_it_names_the_dry_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "resolve", lambda _: "cpu")
    assert program.main([]) == 2
    assert "--dry-run" in capsys.readouterr().err


def test_cells_suit_a_table() -> None:
    assert program.line({"a": 1234.5, "b": None, "c": "x|y\nz", "d": 64, "e": 3.14159}) == (
        "| 1,234 | – | x\\|y z | 64 | 3.14 |"
    )
    assert program.head({"name": "", "rows": 1}) == "| name | rows |\n|---|--:|"


def test_words_are_read_back_as_their_ids() -> None:
    assert ids_of(words_of([5, 0, 4095])) == [5, 0, 4095]
