"""The command `folder` on unusual names, files and permissions: each file gets a caption or a message."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from blip_space import catalogue
from tests.apps.cli.folder_command import FAST, Run, read_captions, read_rows
from tests.checkpoints.constant import write_constant
from tests.jobs.folder_fixtures import draw, limit_file_size

ROOT = Path(__file__).resolve().parents[3]
OTHER_USER = 65534


def test_a_text_file_never_overwrites_the_output(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--overwrite-edited",)):
        code, err = run("--format", "txt", *more, folder=Path("images"), output="images/1.txt")
        assert code == 1
        assert "1.png: Its text file would be the output itself" in err
        assert len(read_rows(folder / "1.txt")) == 2


@pytest.mark.parametrize("form", ["json", "jsonl", "txt"])
def test_a_pipe_a_circular_link_or_an_image_is_not_overwritten(
    run: Run, folder: Path, tmp_path: Path, form: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = (folder / "1.png").read_bytes()
    for output in ("pipe", "circle", "images/1.png"):
        code, err = run("--format", form, "--overwrite-edited", "--existing", "overwrite", output=output)
        assert (code, len(err.splitlines())) == (1, 1)
    assert not (tmp_path / "pipe").is_file()
    assert (folder / "1.png").read_bytes() == before


def test_of_two_images_with_one_name_the_captioned_one_gets_the_text_file(run: Run, folder: Path) -> None:
    """Case heic-beside-jpg: nothing was done at all."""
    (folder / "1.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    code, err = run("--format", "txt")
    assert code == 1
    assert "1.heic: " in err
    assert (folder / "1.txt").read_text() == "a red circle"
    draw(folder / "1.webp", 2)
    run("--format", "txt")
    assert sorted(path.name for path in folder.glob("1*.txt")) == ["1.png.txt", "1.webp.txt"]


def test_a_text_file_that_cannot_be_written_fails_its_image_only(run: Run, folder: Path, tmp_path: Path) -> None:
    """Case text-file-in-the-way."""
    (folder / "1.txt").mkdir()
    code, err = run("--format", "txt", "--existing", "overwrite")
    assert code == 1
    assert "1.png: 1.txt is a folder" in err
    assert (folder / "2.txt").read_text() == "two red circles"
    assert [(row["file"], row["error"] is None) for row in read_rows(tmp_path / "o.jsonl")] == [
        ("1.png", False),
        ("2.png", True),
    ]
    assert not [path for path in folder.iterdir() if "draft" in path.name]
    (folder / "1.txt").rmdir()
    assert run("--format", "txt")[0] == 0
    assert (folder / "1.txt").read_text() == "a red circle"


def test_a_table_that_does_not_fit_on_the_disk_loses_neither_records_nor_the_summary(run: Run, tmp_path: Path) -> None:
    run(output="o.json.jsonl")
    size = (tmp_path / "o.json.jsonl").stat().st_size
    with limit_file_size(size - 1):
        code, err = run("--format", "json", output="o.json")
    assert code == 1
    assert "2 already done" in err
    assert "o.json: It was not written: file too large" in err
    assert len(read_rows(tmp_path / "o.json.jsonl")) == 2
    assert run("--format", "json", output="o.json")[0] == 0


def test_names_that_are_not_utf8_and_names_of_full_length_are_captioned(run: Run, folder: Path, tmp_path: Path) -> None:
    """Case name-that-is-no-utf8: every run ended with a traceback."""
    (folder / "1.png").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    (folder / "2.png").rename(folder / ("x" * 251 + ".png"))
    for _ in range(2):
        assert run("--format", "txt")[0] == 0
    assert read_captions(tmp_path / "o.jsonl") == {
        r"caf\xe9.png": "a red circle",
        "x" * 251 + ".png": "two red circles",
    }
    assert Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).read_text() == "a red circle"
    assert (folder / ("x" * 251 + ".txt")).read_text() == "two red circles"


def test_an_output_among_the_images_is_never_captioned(run: Run) -> None:
    for _ in range(2):
        code, err = run("--glob", "*", output="images/o.jsonl")
        assert (code, "2 images found" in err) == (0, True)


def test_a_caption_that_repeats_to_its_end_is_marked_and_a_penalty_prevents_it(run: Run, tmp_path: Path) -> None:
    """Case caption-that-repeats: `folder` had no repetition penalty."""
    model = write_constant(tmp_path / "loop", "at")
    run("--model", model)
    assert {row["repeats"] for row in read_rows(tmp_path / "o.jsonl")} == {True}
    assert run("--model", model, "--repetition-penalty", "2")[0] == 0
    assert read_rows(tmp_path / "o.jsonl")[-1]["options"]["repetition_penalty"] == 2.0


UNPRIVILEGED = """
import contextlib, io, json, os, sys
from blip_space.apps import cli
commands = json.loads(sys.argv[1])
cli.main(commands[0])  # as root: imports everything
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
results = []
for command in commands[1:]:
    with contextlib.redirect_stderr(io.StringIO()) as err:
        code = cli.main(command)
    results.append([code, err.getvalue()])
print(json.dumps(results))
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter; those of pytest are root's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become another user")
def test_files_without_permission_get_a_message_and_the_others_a_caption(shared: Path) -> None:
    """Run as uid 65534, since root has all permissions: a read-only folder was a traceback after all the work."""
    model, images = shared / "tiny", shared / "images"
    shutil.copytree(catalogue.TINY_FOLDER, model)
    for name in ("open/1.png", "locked/2.png", "closed/3.png", "open/secret.png"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        draw(images / name, 1)
    for path, mode in ((images, 0o755), (images / "locked", 0o555), (images / "closed", 0o700)):
        path.chmod(mode)
    for path in (images / "open", outputs := shared / "outputs"):
        path.mkdir(exist_ok=True)
        os.chown(path, OTHER_USER, OTHER_USER)
    os.chown(images, OTHER_USER, OTHER_USER)
    (images / "open" / "secret.png").chmod(0o600)
    warm = shared / "warm"
    warm.mkdir()
    draw(warm / "1.png", 1)
    base = ["--recursive", "--model", str(model), *FAST]
    commands = [
        ["folder", str(warm), "--output", str(warm / "w.jsonl"), "--format", "txt", *base],
        ["folder", str(images), "--output", str(outputs / "o.jsonl"), "--format", "txt", *base],
        ["folder", str(images), "--output", str(shared / "o.jsonl"), *base],
    ]
    program = [sys.executable, "-c", UNPRIVILEGED, json.dumps(commands), str(OTHER_USER)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    (code, err), (refused, message) = json.loads(done.stdout.splitlines()[-1])
    assert code == 1
    assert "closed: The folder cannot be read." in err
    assert "locked/2.png: Its folder cannot be written to" in err
    assert "open/secret.png: The file 'secret.png' cannot be read." in err
    assert (images / "open" / "1.txt").read_text() == "two red circles"
    assert sorted(row["file"] for row in read_rows(outputs / "o.jsonl") if row["error"]) == [
        "locked/2.png",
        "open/secret.png",
    ]
    assert (refused, len(message.splitlines())) == (1, 1)
    assert "o.jsonl cannot be written. Check the permissions" in message
