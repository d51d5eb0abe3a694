"""`python -m blip_space folder` as a person uses it: files, formats, mistakes, and a machine that loses its power."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from blip_space.apps import cli
from tests.jobs.folder_fixtures import draw

ROOT = Path(__file__).resolve().parents[3]
SERVED = ("--quality", "stream", "--max-new-tokens", "12")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        draw(folder / f"{number}.png", number)
    (folder / "broken.webp").write_text("no picture")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["folder", *map(str, arguments)])
    return (code, *capsys.readouterr())


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_a_folder_is_captioned_and_what_failed_is_listed(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "captions.jsonl"
    code, _, err = run(capsys, folder, "--output", output, *SERVED)
    assert code == 1
    assert "4 captions written" in err
    assert "broken.webp: The file is not an image" in err
    assert {row["file"]: row["caption"] for row in lines(output)} == {
        "0.png": "a red circle",
        "1.png": "two red circles",
        "2.png": "three red circles",
        "3.png": "four red circles",
        "broken.webp": None,
    }


def test_progress_comes_as_json_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    _, out, _ = run(capsys, folder, "--output", tmp_path / "c.jsonl", "--json", "--limit", "3", *SERVED)
    last = [json.loads(line) for line in out.splitlines()][-1]
    assert (last["event"], last["done"], last["total"], last["written"], last["errors"]) == ("end", 3, 3, 3, 0)


def test_a_table_opens_in_a_spreadsheet_and_holds_no_formula(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    asked = ("--language", "en,ja", "--glob", "*.png", "--prompt", "=HYPERLINK(1) how many circles are there?")
    assert run(capsys, folder, "--output", tmp_path / "c.csv", "--format", "csv", *asked, *SERVED)[0] == 0
    content = (tmp_path / "c.csv").read_text("utf-8")
    assert content.startswith("\ufeff")
    rows = list(csv.DictReader(content.removeprefix("\ufeff").splitlines()))
    assert len(rows) == 8
    assert {row["prompt"][:2] for row in rows} == {"'="}
    assert len(lines(tmp_path / "c.csv.jsonl")) == 8


def test_text_files_lie_beside_the_pictures_with_what_a_training_wants_around(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    around = ("--prefix", "sks, ", "--suffix", ", flat")
    (folder / "2.txt").write_text("by hand", "utf-8")
    assert run(capsys, folder, "--output", tmp_path / "c.jsonl", "--format", "txt", *around, *SERVED)[0] == 1
    assert (folder / "1.txt").read_text("utf-8") == "sks, two red circles, flat"
    assert not (folder / "broken.txt").exists()
    assert (folder / "2.txt").read_text("utf-8") == "by hand"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "There is no folder 'nowhere'"),
        (["{empty}"], "There is no picture in 'empty'. Its folders are looked into with --recursive."),
        (["{folder}", "--batch-size", "many"], "--batch-size must be auto or a whole number"),
        (["{folder}", "--limit", "0"], "--limit must be at least 1"),
        (["{folder}", "--workers", "0"], "--workers must be at least 1"),
        (["{folder}", "--language", "xx"], "no language 'xx'"),
        (["{folder}", "--language", "en,eo"], "does not support Esperanto"),
        (["{folder}", "--language", "en,de", "--format", "txt"], "one caption a picture"),
        (["{folder}", "--format", "txt", "--extension", ".png"], "no ending of a text file"),
        (["{folder}", "--format", "coco", "--language", "en,de"], "one caption a picture"),
        (["{folder}", "--output", "{empty}"], "empty is a folder"),
        (["{folder}", "--format", "json", "--output", "."], "is a folder"),
        (["{folder}", "--glob", "/abs/*.png"], "names nothing in the folder"),
        (["{folder}", "--temperature", "1"], "quality 'best' is beam search, which does not sample"),
        (["{folder}", "--max-new-tokens", "9999"], "max_new_tokens must be"),
        (["{folder}", "--output", "{empty}/no/such/place.jsonl"], "There is no folder for place.jsonl"),
    ],
)
def test_a_mistake_is_one_line_before_any_model_is_loaded(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.setattr("blip_space.loading.loader.load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    places = {"folder": folder, "empty": tmp_path / "empty"}
    places["empty"].mkdir()
    given = [argument.format(**places) for argument in arguments]
    if "--output" not in given:
        given += ["--output", str(tmp_path / "c.jsonl")]
    code, _, err = run(capsys, *given)
    assert code == 1
    assert sentence in err
    assert len(err.splitlines()) == 1


class Process:
    """The command in a process of its own, which can be killed."""

    def __init__(self, folder: Path, output: Path) -> None:
        command = [sys.executable, "-m", "blip_space", "folder", str(folder), "--output", str(output), *SERVED]
        self.output = output
        self._process = subprocess.Popen(
            [*command, "--batch-size", "4"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def kill_after(self, more: int) -> None:
        """Take its power once so many more lines are there, or it is done."""
        wanted = self._lines() + more
        while self._lines() < wanted and self._process.poll() is None:
            time.sleep(0.002)
        self._process.kill()
        self._process.wait()

    def interrupt_after(self, more: int) -> tuple[int, str]:
        """Press Ctrl-C then; its exit code and what it said."""
        wanted = self._lines() + more
        while self._lines() < wanted and self._process.poll() is None:
            time.sleep(0.002)
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=60)
        return self._process.returncode, said

    def end(self) -> int:
        self._process.communicate(timeout=120)
        return self._process.returncode

    def _lines(self) -> int:
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0


def test_after_losing_its_power_and_after_ctrl_c_each_picture_has_its_line_once(tmp_path: Path) -> None:
    """The whole of it, two thousand pictures and ten losses, is `python -m benchmarks.crash_recovery`."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(60):
        draw(folder / f"{number:03}.png", number)
    assert Process(folder, tmp_path / "whole.jsonl").end() == 0
    torn = tmp_path / "torn.jsonl"
    Process(folder, torn).kill_after(1)
    Process(folder, torn).kill_after(9)
    code, said = Process(folder, torn).interrupt_after(5)
    assert code == 130
    assert "the same command goes on" in said
    assert Process(folder, torn).end() == 0
    captions = [{row["file"]: row["caption"] for row in lines(file)} for file in (tmp_path / "whole.jsonl", torn)]
    assert captions[0] == captions[1]
    assert len(lines(torn)) == 60
