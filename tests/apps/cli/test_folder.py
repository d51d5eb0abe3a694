"""The command `folder`: files, formats, mistakes, and runs that are killed."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blip_space.apps import cli
from tests.apps.cli.folder_command import FAST, read_captions, read_rows
from tests.jobs.folder_fixtures import draw

ROOT = Path(__file__).resolve().parents[3]
IMAGES = 120
"""Of which a run that is stopped has written a few."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        draw(folder / f"{number}.png", number)
    (folder / "broken.webp").write_text("no image")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["folder", *map(str, arguments)])
    return (code, *capsys.readouterr())


def test_a_folder_is_captioned_and_errors_are_listed(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "captions.jsonl"
    code, _, err = run(capsys, folder, "--output", output, *FAST)
    assert code == 1
    assert "4 captions generated" in err
    assert "broken.webp: The file is not an image" in err
    assert read_captions(output) == {
        "0.png": "a red circle",
        "1.png": "two red circles",
        "2.png": "three red circles",
        "3.png": "four red circles",
        "broken.webp": None,
    }


def test_progress_is_json_with_the_option(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    _, out, _ = run(capsys, folder, "--output", tmp_path / "c.jsonl", "--json", "--limit", "3", *FAST)
    last = [json.loads(line) for line in out.splitlines()][-1]
    assert (last["event"], last["done"], last["total"], last["written"], last["errors"]) == ("end", 3, 3, 3, 0)


def test_a_table_opens_in_a_spreadsheet_and_has_no_formula(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    options = ("--language", "en,ja", "--glob", "*.png", "--prompt", "=HYPERLINK(1) how many circles are there?")
    assert run(capsys, folder, "--output", tmp_path / "c.csv", "--format", "csv", *options, *FAST)[0] == 0
    content = (tmp_path / "c.csv").read_text("utf-8")
    assert content.startswith("\ufeff")
    rows = list(csv.DictReader(content.removeprefix("\ufeff").splitlines()))
    assert len(rows) == 8
    assert {row["prompt"][:2] for row in rows} == {"'="}
    assert len(read_rows(tmp_path / "c.csv.jsonl")) == 8


def test_text_files_are_beside_the_images_with_prefix_and_suffix(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    affixes = ("--prefix", "sks, ", "--suffix", ", flat")
    (folder / "2.txt").write_text("by hand", "utf-8")
    assert run(capsys, folder, "--output", tmp_path / "c.jsonl", "--format", "txt", *affixes, *FAST)[0] == 1
    assert (folder / "1.txt").read_text("utf-8") == "sks, two red circles, flat"
    assert not (folder / "broken.txt").exists()
    assert (folder / "2.txt").read_text("utf-8") == "by hand"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "There is no folder 'nowhere'"),
        (["{empty}"], "There is no image in 'empty'. Use --recursive to include its subfolders."),
        (["{folder}", "--batch-size", "many"], "--batch-size must be auto or a whole number"),
        (["{folder}", "--limit", "0"], "--limit must be at least 1"),
        (["{folder}", "--workers", "0"], "--workers must be at least 1"),
        (["{folder}", "--language", "xx"], "no language 'xx'"),
        (["{folder}", "--language", "en,eo"], "does not support Esperanto"),
        (["{folder}", "--language", "en,de", "--format", "txt"], "only one caption per image"),
        (["{folder}", "--format", "txt", "--extension", ".png"], "not the extension of a text file"),
        (["{folder}", "--format", "coco", "--language", "en,de"], "only one caption per image"),
        (["{folder}", "--output", "{empty}"], "empty is a folder"),
        (["{folder}", "--format", "json", "--output", "."], "is a folder"),
        (["{folder}", "--glob", "/abs/*.png"], "must be a relative pattern"),
        (["{folder}", "--temperature", "1"], "quality 'best' is beam search, which does not sample"),
        (["{folder}", "--max-new-tokens", "9999"], "max_new_tokens must be"),
        (["{folder}", "--output", "{empty}/no/such/folder.jsonl"], "There is no folder for folder.jsonl"),
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
    folders = {"folder": folder, "empty": tmp_path / "empty"}
    folders["empty"].mkdir()
    command = [argument.format(**folders) for argument in arguments]
    if "--output" not in command:
        command += ["--output", str(tmp_path / "c.jsonl")]
    code, _, err = run(capsys, *command)
    assert code == 1
    assert sentence in err
    assert len(err.splitlines()) == 1


class Process:
    """The command in a process that can be killed."""

    def __init__(self, folder: Path, output: Path) -> None:
        command = [sys.executable, "-m", "blip_space", "folder", str(folder), "--output", str(output), *FAST]
        self.output = output
        self._process = subprocess.Popen(
            [*command, "--batch-size", "4"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def kill_after(self, more: int) -> None:
        """Kill it after so many more records, or when it has ended."""
        target = self._lines() + more
        while self._lines() < target and self._process.poll() is None:
            time.sleep(0.002)
        self._process.kill()
        self._process.wait()

    def interrupt_after(self, more: int) -> tuple[int, str]:
        """Press Ctrl-C after so many more records; returns its exit code and stderr."""
        target = self._lines() + more
        while self._lines() < target and self._process.poll() is None:
            time.sleep(0.002)
        self._process.send_signal(signal.SIGINT)
        _, err = self._process.communicate(timeout=120)
        return self._process.returncode, err

    def end(self) -> int:
        self._process.communicate(timeout=120)
        return self._process.returncode

    def _lines(self) -> int:
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0


def test_after_a_kill_and_ctrl_c_each_image_has_one_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m benchmarks.crash_recovery` does the same with two thousand images and ten kills."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(IMAGES):
        draw(folder / f"{number:03}.png", number)
    assert run(capsys, str(folder), "--output", str(tmp_path / "complete.jsonl"), *FAST)[0] == 0
    resumed = tmp_path / "resumed.jsonl"
    Process(folder, resumed).kill_after(9)
    code, err = Process(folder, resumed).interrupt_after(5)
    assert code == 130
    assert "the same command resumes" in err
    assert Process(folder, resumed).end() == 0
    assert read_captions(resumed) == read_captions(tmp_path / "complete.jsonl")
    assert len(read_rows(resumed)) == IMAGES
