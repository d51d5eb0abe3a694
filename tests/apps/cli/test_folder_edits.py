"""The command `folder` keeps what users wrote or edited: captions, text files, tables and other files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blip_space.jobs.folder_listing import MANIFEST_NAME
from tests.apps.cli.folder_command import Run, read_captions
from tests.jobs.folder_fixtures import draw


def test_a_corrected_caption_is_the_caption_in_every_format(run: Run, folder: Path, tmp_path: Path) -> None:
    """Case text-corrected-by-hand."""
    run("--format", "txt")
    (folder / "1.txt").write_text("corrected by hand")
    draw(folder / "3.png", 2)
    assert run("--format", "txt")[0] == 0
    assert (folder / "1.txt").read_text() == "corrected by hand"
    assert (folder / "3.txt").read_text() == "three red circles"
    assert read_captions(tmp_path / "o.jsonl")["1.png"] == "corrected by hand"
    run("--format", "json", output="o.json")
    assert {row["file"]: row["caption"] for row in json.loads((tmp_path / "o.json").read_text())} == {
        "1.png": "corrected by hand",
        "2.png": "two red circles",
        "3.png": "three red circles",
    }
    run("--format", "txt", "--overwrite-edited")
    assert (folder / "1.txt").read_text() == "a red circle"
    assert read_captions(tmp_path / "o.jsonl")["1.png"] == "a red circle"


def test_a_text_file_from_before_the_first_record_is_kept(run: Run, folder: Path) -> None:
    """It counted as ours once its image had a record of another job."""
    (folder / "1.txt").write_text("MY OWN WORK")
    run()
    for existing in ("skip", "overwrite"):
        code, err = run("--format", "txt", "--existing", existing)
        assert code == 0
        assert "not overwritten, because you wrote or edited it: 1.txt" in err
        assert (folder / "1.txt").read_text() == "MY OWN WORK"
    assert (folder / "2.txt").read_text() == "two red circles"


@pytest.mark.parametrize(("form", "name"), [("json", "o.json"), ("csv", "o.csv"), ("coco", "o.json")])
def test_an_edited_table_is_not_overwritten(run: Run, folder: Path, tmp_path: Path, form: str, name: str) -> None:
    assert run("--format", form, output=name)[0] == 0
    assert run("--format", form, output=name)[0] == 0
    changed = (tmp_path / name).read_bytes().replace(b"two red", b"2 rote")
    (tmp_path / name).write_bytes(changed)
    draw(folder / "3.png", 2)
    code, err = run("--format", form, output=name)
    assert (code, (tmp_path / name).read_bytes()) == (1, changed)
    assert f"{name} was changed since this command wrote it" in err
    assert run("--format", form, "--overwrite-edited", output=name)[0] == 0
    assert b"three red" in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "txt", "webdataset"])
def test_another_file_at_the_output_is_not_overwritten(run: Run, tmp_path: Path, form: str) -> None:
    name = "o-000000.tar" if form == "webdataset" else "o"
    (tmp_path / name).write_bytes(b"[1, 2, 3]")
    code, err = run("--format", form, "--existing", "overwrite", output="o.tar" if form == "webdataset" else "o")
    assert (code, (tmp_path / name).read_bytes()) == (1, b"[1, 2, 3]")
    assert len(err.splitlines()) == 1


def test_a_correction_belongs_to_its_image_not_to_its_name(run: Run, folder: Path, tmp_path: Path) -> None:
    """A new image under the same name got the corrected caption silently."""
    run("--format", "txt")
    (folder / "1.txt").write_text("my red ball")
    run("--format", "txt")
    draw(folder / "1.png", 7)
    code, err = run("--format", "txt")
    assert (code, (folder / "1.txt").read_text()) == (0, "my red ball")
    assert "not overwritten, because you wrote or edited it: 1.txt" in err
    assert read_captions(tmp_path / "o.jsonl")["1.png"] == "four green circles"


def test_the_newest_correction_counts_in_the_text_file_or_the_log(run: Run, folder: Path, tmp_path: Path) -> None:
    run("--format", "txt")
    (folder / "1.txt").write_text("in the text")
    run("--format", "txt")
    lines = (tmp_path / "o.jsonl").read_text()
    (tmp_path / "o.jsonl").write_text(lines.replace("in the text", "in the log"))
    run("--format", "txt")
    assert read_captions(tmp_path / "o.jsonl")["1.png"] == "in the log"
    (folder / "1.txt").write_text("in the text again")
    run("--format", "txt")
    assert read_captions(tmp_path / "o.jsonl")["1.png"] == "in the text again"


def test_corrections_in_a_subfolder_are_found_by_a_job_of_its_parent(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "cats").mkdir()
    draw(folder / "cats" / "3.png", 2)
    run("--format", "txt", folder=folder / "cats", output="cats.jsonl")
    (folder / "cats" / "3.txt").write_text("three of them")
    run("--recursive", "--format", "json", output="o.json")
    captions = {row["file"]: row["caption"] for row in json.loads((tmp_path / "o.json").read_text())}
    assert captions["cats/3.png"] == "three of them"


def test_images_with_a_text_of_the_user_are_counted(run: Run, folder: Path) -> None:
    (folder / "1.txt").write_text("mine")
    (folder / "2.png.txt").write_text("notes about it")
    code, err = run("--format", "txt")
    assert (code, "1 with a text of your own" in err) == (0, True)
    assert (folder / "2.txt").read_text() == "two red circles"


def test_a_table_with_an_added_column_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    run("--format", "csv", output="o.csv")
    (tmp_path / MANIFEST_NAME).unlink()
    table = (tmp_path / "o.csv").read_text("utf-8")
    (tmp_path / "o.csv").write_text("\r\n".join(f"{line},5" for line in table.splitlines()), "utf-8", newline="")
    assert "o.csv was not written by this command" in run("--format", "csv", output="o.csv")[1]
