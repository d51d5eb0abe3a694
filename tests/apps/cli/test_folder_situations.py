"""What people bring to `folder`: nothing that they wrote or had is lost, and each file gets its line or a sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blip_space import catalogue
from blip_space.apps import cli
from blip_space.jobs.outputs.manifest import NAME
from blip_space.loading import loader
from tests.checkpoints import blip2
from tests.jobs.folder_fixtures import draw, limit_file_size

ROOT = Path(__file__).resolve().parents[3]
SERVED = ("--quality", "stream", "--max-new-tokens", "12")
NOBODY = 65534
Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _load_once(monkeypatch: pytest.MonkeyPatch, _models: dict[Any, Any]) -> None:
    load = loader.load_model

    def once(spec: catalogue.ModelSpec, precision: str = "auto", **how: Any) -> Any:
        key = (spec.source, spec.adapter, precision)
        if key not in _models:
            _models[key] = load(spec, precision, **how)
        return _models[key]

    monkeypatch.setattr(loader, "load_model", once)


@pytest.fixture(scope="module")
def _models() -> dict[Any, Any]:
    return {}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path) -> Run:
    """The command on the folder; its exit code and what it said."""

    def command(*given: object, folder: Path = folder, output: str = "o.jsonl") -> tuple[int, str]:
        code = cli.main(["folder", str(folder), "--output", str(tmp_path / output), *SERVED, *map(str, given)])
        return code, capsys.readouterr().err

    return command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One red circle, two red circles."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        draw(folder / f"{number + 1}.png", number)
    return folder


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def captions(file: Path) -> dict[str, str | None]:
    return {row["file"]: row["caption"] for row in rows(file)}


def test_a_caption_that_was_corrected_stays_and_is_the_caption_everywhere(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    """Case text-corrected-by-hand."""
    run("--format", "txt")
    (folder / "1.txt").write_text("corrected by hand")
    draw(folder / "3.png", 2)
    assert run("--format", "txt")[0] == 0
    assert (folder / "1.txt").read_text() == "corrected by hand"
    assert (folder / "3.txt").read_text() == "three red circles"
    assert captions(tmp_path / "o.jsonl")["1.png"] == "corrected by hand"
    run("--format", "json", output="o.json")
    assert {row["file"]: row["caption"] for row in json.loads((tmp_path / "o.json").read_text())} == {
        "1.png": "corrected by hand",
        "2.png": "two red circles",
        "3.png": "three red circles",
    }
    run("--format", "txt", "--overwrite-edited")
    assert (folder / "1.txt").read_text() == "a red circle"
    assert captions(tmp_path / "o.jsonl")["1.png"] == "a red circle"


def test_a_text_that_was_there_before_any_line_stays(run: Run, folder: Path) -> None:
    """It was taken for ours once its image had a line of another job."""
    (folder / "1.txt").write_text("MY OWN WORK")
    run()
    for existing in ("skip", "overwrite"):
        code, said = run("--format", "txt", "--existing", existing)
        assert code == 0
        assert "left as a person made it: 1.txt" in said
        assert (folder / "1.txt").read_text() == "MY OWN WORK"
    assert (folder / "2.txt").read_text() == "two red circles"


@pytest.mark.parametrize(("form", "name"), [("json", "o.json"), ("csv", "o.csv"), ("coco", "o.json")])
def test_a_table_that_a_person_corrected_is_not_written_over(
    run: Run, folder: Path, tmp_path: Path, form: str, name: str
) -> None:
    assert run("--format", form, output=name)[0] == 0
    assert run("--format", form, output=name)[0] == 0
    changed = (tmp_path / name).read_bytes().replace(b"two red", b"2 rote")
    (tmp_path / name).write_bytes(changed)
    draw(folder / "3.png", 2)
    code, said = run("--format", form, output=name)
    assert (code, (tmp_path / name).read_bytes()) == (1, changed)
    assert f"{name} was changed since this command wrote it" in said
    assert run("--format", form, "--overwrite-edited", output=name)[0] == 0
    assert b"three red" in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "txt", "webdataset"])
def test_a_file_of_somebodys_is_not_written_over(run: Run, tmp_path: Path, form: str) -> None:
    name = "o-000000.tar" if form == "webdataset" else "o"
    (tmp_path / name).write_bytes(b"[1, 2, 3]")
    code, said = run("--format", form, "--existing", "overwrite", output="o.tar" if form == "webdataset" else "o")
    assert (code, (tmp_path / name).read_bytes()) == (1, b"[1, 2, 3]")
    assert len(said.splitlines()) == 1


def test_a_job_of_todays_version_goes_on(run: Run, folder: Path, tmp_path: Path) -> None:
    """Its lines name the model only, and its tables and texts are on no list."""
    run("--format", "json", output="o.json")
    run("--format", "txt", output="o.jsonl")
    (folder / NAME).unlink()
    (tmp_path / NAME).unlink()
    for name in ("o.json.jsonl", "o.jsonl"):
        old = [
            {key: row[key] for key in row if key not in ("fingerprint", "repeats", "edited")}
            for row in rows(tmp_path / name)
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in old))
    (tmp_path / "o.json").write_text(json.dumps(old, indent=1))
    draw(folder / "3.png", 2)
    code, said = run("--format", "json", output="o.json")
    assert (code, "1 captions written" in said, "2 were there" in said) == (0, True, True)
    assert said.count("lines that name their model only") == 1
    assert len(json.loads((tmp_path / "o.json").read_text())) == 3
    assert run("--format", "txt", "--prefix", "sks ")[0] == 0
    assert run("--format", "txt")[0] == 0
    assert (folder / "3.txt").read_text() == "three red circles"


def test_another_folder_on_the_same_output_is_refused(run: Run, tmp_path: Path) -> None:
    """Case two-folders-one-output: the line of the first folder's 1.png was deleted without a word."""
    run()
    before = (tmp_path / "o.jsonl").read_bytes()
    other = tmp_path / "dogs"
    other.mkdir()
    draw(other / "1.png", 9)
    for existing in ("skip", "append"):
        code, said = run("--existing", existing, folder=other)
        assert (code, (tmp_path / "o.jsonl").read_bytes()) == (1, before)
        assert "o.jsonl is about other images: none of the 2" in said
    assert run("--existing", "overwrite", folder=other)[0] == 0
    assert captions(tmp_path / "o.jsonl") == {"1.png": "two blue circles"}


def test_a_folder_that_shares_some_images_is_still_another(run: Run, folder: Path, tmp_path: Path) -> None:
    """One equal image, or a folder in the first one, let the second folder's lines take the place of the first's."""
    (folder / "cats").mkdir()
    draw(folder / "cats" / "1.png", 9)
    for number in (3, 4, 5):
        draw(folder / f"{number}.png", number)
    run("--recursive")
    before = (tmp_path / "o.jsonl").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "5.png", other / "5.png")
    for number in (1, 2, 3):
        draw(other / f"{number}.png", number + 20)
    for place in (folder / "cats", other):
        code, said = run(folder=place)
        assert (code, (tmp_path / "o.jsonl").read_bytes()) == (1, before)
        assert "is about other images: only 1 of the 6 in it lie in" in said


def test_a_folder_whose_images_were_numbered_anew_goes_on(run: Run, folder: Path, tmp_path: Path) -> None:
    for number in (3, 4, 5):
        draw(folder / f"{number}.png", number)
    run()
    (folder / "1.png").unlink()
    for number in (2, 3, 4, 5):
        (folder / f"{number}.png").rename(folder / f"{number - 1}.png")
    code, said = run()
    assert (code, "4 copied from equal pictures" in said) == (0, True)
    assert captions(tmp_path / "o.jsonl")["1.png"] == "two red circles"


def test_a_correction_belongs_to_the_image_that_it_was_made_for(run: Run, folder: Path, tmp_path: Path) -> None:
    """The image that took its name had the corrected caption, without a word."""
    run("--format", "txt")
    (folder / "1.txt").write_text("my red ball")
    run("--format", "txt")
    draw(folder / "1.png", 7)
    code, said = run("--format", "txt")
    assert (code, (folder / "1.txt").read_text()) == (0, "my red ball")
    assert "left as a person made it: 1.txt" in said
    assert captions(tmp_path / "o.jsonl")["1.png"] == "four green circles"


def test_the_newest_correction_counts_wherever_it_was_made(run: Run, folder: Path, tmp_path: Path) -> None:
    run("--format", "txt")
    (folder / "1.txt").write_text("in the text")
    run("--format", "txt")
    lines = (tmp_path / "o.jsonl").read_text()
    (tmp_path / "o.jsonl").write_text(lines.replace("in the text", "in the lines"))
    run("--format", "txt")
    assert captions(tmp_path / "o.jsonl")["1.png"] == "in the lines"
    (folder / "1.txt").write_text("in the text again")
    run("--format", "txt")
    assert captions(tmp_path / "o.jsonl")["1.png"] == "in the text again"


def test_what_was_written_for_a_folder_is_known_to_a_job_above_it(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "cats").mkdir()
    draw(folder / "cats" / "3.png", 2)
    run("--format", "txt", folder=folder / "cats", output="cats.jsonl")
    (folder / "cats" / "3.txt").write_text("three of them")
    run("--recursive", "--format", "json", output="o.json")
    found = {row["file"]: row["caption"] for row in json.loads((tmp_path / "o.json").read_text())}
    assert found["cats/3.png"] == "three of them"


def test_images_with_a_text_of_a_persons_are_counted(run: Run, folder: Path) -> None:
    (folder / "1.txt").write_text("mine")
    (folder / "2.png.txt").write_text("notes about it")
    code, said = run("--format", "txt")
    assert (code, "1 with a text of your own" in said) == (0, True)
    assert (folder / "2.txt").read_text() == "two red circles"


def test_a_text_is_never_the_output_itself(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--overwrite-edited",)):
        code, said = run("--format", "txt", *more, folder=Path("images"), output="images/1.txt")
        assert code == 1
        assert "1.png: Its text file would be the output itself" in said
        assert len(rows(folder / "1.txt")) == 2


@pytest.mark.parametrize("form", ["json", "jsonl", "txt"])
def test_nothing_is_put_in_the_place_of_a_pipe_or_an_image(run: Run, folder: Path, tmp_path: Path, form: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = (folder / "1.png").read_bytes()
    for output in ("pipe", "circle", "images/1.png"):
        code, said = run("--format", form, "--overwrite-edited", "--existing", "overwrite", output=output)
        assert (code, len(said.splitlines())) == (1, 1)
    assert not (tmp_path / "pipe").is_file()
    assert (folder / "1.png").read_bytes() == before


def test_a_column_that_a_person_added_to_a_table_is_not_lost(run: Run, tmp_path: Path) -> None:
    run("--format", "csv", output="o.csv")
    (tmp_path / NAME).unlink()
    table = (tmp_path / "o.csv").read_text("utf-8")
    (tmp_path / "o.csv").write_text("\r\n".join(f"{line},5" for line in table.splitlines()), "utf-8", newline="")
    assert "o.csv was there before" in run("--format", "csv", output="o.csv")[1]


def test_a_folder_that_was_moved_or_whose_files_were_renamed_goes_on(run: Run, folder: Path, tmp_path: Path) -> None:
    run()
    moved = folder.rename(tmp_path / "elsewhere")
    assert "2 were there" in run(folder=moved)[1]
    for number in (1, 2):
        (moved / f"{number}.png").rename(moved / f"new{number}.png")
    assert "2 copied from equal pictures" in run(folder=moved)[1]
    assert "2 were there" in run("--glob", "new*", folder=moved)[1]


def test_a_run_that_fails_before_its_first_caption_leaves_the_old_ones(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--existing overwrite` emptied the output before anything was checked."""
    run()
    before = (tmp_path / "o.jsonl").read_bytes()
    assert run("--existing", "overwrite", "--precision", "fp16")[0] == 1
    monkeypatch.setattr(loader, "load_model", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("--existing", "overwrite")[0] == 130
    assert (tmp_path / "o.jsonl").read_bytes() == before


def test_tables_hold_what_the_folder_holds_in_this_jobs_options(run: Run, folder: Path, tmp_path: Path) -> None:
    run("--format", "txt", "--max-new-tokens", "1")
    short = (folder / "2.txt").read_text()
    run("--format", "txt")
    assert (folder / "2.txt").read_text() != short
    run("--format", "txt", "--max-new-tokens", "1")
    assert (folder / "2.txt").read_text() == short
    run("--format", "json", output="o.json")
    (folder / "2.png").unlink()
    run("--format", "json", output="o.json")
    assert [row["file"] for row in json.loads((tmp_path / "o.json").read_text())] == ["1.png"]


def test_another_checkpoint_or_adapter_of_the_same_name_never_stands_for_this_one(run: Run, tmp_path: Path) -> None:
    """Two folders called checkpoint-100 shared their captions, and an adapter took those of the bare model."""
    for name, seed in (("a", 0), ("b", 1)):
        blip2.write(tmp_path / name / "checkpoint-100", "opt", seed=seed)
    first, other = (tmp_path / name / "checkpoint-100" for name in ("a", "b"))
    assert "2 captions written" in run("--model", first)[1]
    assert "2 captions written" in run("--model", other)[1]
    copied = shutil.copytree(first, tmp_path / "c" / "checkpoint-100")
    assert "2 were there" in run("--model", copied)[1]
    assert len({row["fingerprint"] for row in rows(tmp_path / "o.jsonl")}) == 2


def test_of_two_images_of_one_name_the_one_with_a_caption_has_the_text(run: Run, folder: Path) -> None:
    """Case heic-beside-jpg: nothing was done at all."""
    (folder / "1.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    code, said = run("--format", "txt")
    assert code == 1
    assert "1.heic: " in said
    assert (folder / "1.txt").read_text() == "a red circle"
    draw(folder / "1.webp", 2)
    run("--format", "txt")
    assert sorted(path.name for path in folder.glob("1*.txt")) == ["1.png.txt", "1.webp.txt"]


def test_a_text_that_has_no_place_costs_its_image_alone(run: Run, folder: Path, tmp_path: Path) -> None:
    """Case text-file-in-the-way."""
    (folder / "1.txt").mkdir()
    code, said = run("--format", "txt", "--existing", "overwrite")
    assert code == 1
    assert "1.png: 1.txt is a folder" in said
    assert (folder / "2.txt").read_text() == "two red circles"
    assert [(row["file"], row["error"] is None) for row in rows(tmp_path / "o.jsonl")] == [
        ("1.png", False),
        ("2.png", True),
    ]
    assert not [path for path in folder.iterdir() if "draft" in path.name]
    (folder / "1.txt").rmdir()
    assert run("--format", "txt")[0] == 0
    assert (folder / "1.txt").read_text() == "a red circle"


def test_a_table_that_finds_no_room_costs_neither_lines_nor_the_summary(run: Run, tmp_path: Path) -> None:
    run(output="o.json.jsonl")
    size = (tmp_path / "o.json.jsonl").stat().st_size
    with limit_file_size(size - 1):
        code, said = run("--format", "json", output="o.json")
    assert code == 1
    assert "2 were there" in said
    assert "o.json: It was not written: file too large" in said
    assert len(rows(tmp_path / "o.json.jsonl")) == 2
    assert run("--format", "json", output="o.json")[0] == 0


def test_names_that_are_no_utf8_and_names_of_full_length_are_captioned(run: Run, folder: Path, tmp_path: Path) -> None:
    """Case name-that-is-no-utf8: the job ended with a traceback, on each run again."""
    (folder / "1.png").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    (folder / "2.png").rename(folder / ("x" * 251 + ".png"))
    for _ in range(2):
        assert run("--format", "txt")[0] == 0
    assert captions(tmp_path / "o.jsonl") == {r"caf\xe9.png": "a red circle", "x" * 251 + ".png": "two red circles"}
    assert Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).read_text() == "a red circle"
    assert (folder / ("x" * 251 + ".txt")).read_text() == "two red circles"


def test_an_output_among_the_images_is_never_captioned(run: Run) -> None:
    for _ in range(2):
        code, said = run("--glob", "*", output="images/o.jsonl")
        assert (code, "2 images taken" in said) == (0, True)


def test_a_stopped_run_names_the_command_that_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blip_space.apps.cli.folder.FolderRun.run", stopped)
    assert "the same command goes on" in run()[1]
    assert "the same command with --existing skip goes on" in run("--existing", "overwrite")[1]
    assert "begins again with the first image" in run("--existing", "append")[1]


def stopped(self: Any) -> Any:
    self.progress.cancelled = True
    return self.progress


def test_what_repeats_to_its_end_is_marked_and_a_penalty_is_taken(run: Run, tmp_path: Path) -> None:
    """Case caption-that-repeats: `folder` had no way out of loops."""
    from tests.checkpoints.constant import write_constant

    model = write_constant(tmp_path / "loop", "at")
    run("--model", model)
    assert {row["repeats"] for row in rows(tmp_path / "o.jsonl")} == {True}
    assert run("--model", model, "--repetition-penalty", "2")[0] == 0
    assert rows(tmp_path / "o.jsonl")[-1]["options"]["repetition_penalty"] == 2.0


UNPRIVILEGED = """
import contextlib, io, json, os, sys
from blip_space.apps import cli
commands = json.loads(sys.argv[1])
cli.main(commands[0])  # as root: everything that has to be imported is
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
said = []
for command in commands[1:]:
    with contextlib.redirect_stderr(io.StringIO()) as err:
        code = cli.main(command)
    said.append([code, err.getvalue()])
print(json.dumps(said))
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are root's."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be somebody else")
def test_what_may_not_be_read_or_written_is_told_and_the_others_are_done(shared: Path) -> None:
    """Run as uid 65534, since root may everything: a read-only folder was a traceback after all the work."""
    model, images = shared / "tiny", shared / "images"
    shutil.copytree(catalogue.TINY_FOLDER, model)
    for name in ("open/1.png", "locked/2.png", "closed/3.png", "open/secret.png"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        draw(images / name, 1)
    for place, mode in ((images, 0o755), (images / "locked", 0o555), (images / "closed", 0o700)):
        place.chmod(mode)
    for place in (images / "open", outputs := shared / "outputs"):
        place.mkdir(exist_ok=True)
        os.chown(place, NOBODY, NOBODY)
    os.chown(images, NOBODY, NOBODY)
    (images / "open" / "secret.png").chmod(0o600)
    warm = shared / "warm"
    warm.mkdir()
    draw(warm / "1.png", 1)
    base = ["--recursive", "--model", str(model), *SERVED]
    commands = [
        ["folder", str(warm), "--output", str(warm / "w.jsonl"), "--format", "txt", *base],
        ["folder", str(images), "--output", str(outputs / "o.jsonl"), "--format", "txt", *base],
        ["folder", str(images), "--output", str(shared / "o.jsonl"), *base],
    ]
    program = [sys.executable, "-c", UNPRIVILEGED, json.dumps(commands), str(NOBODY)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    (code, said), (refused, sentence) = json.loads(done.stdout.splitlines()[-1])
    assert code == 1
    assert "closed: The folder cannot be read." in said
    assert "locked/2.png: Its folder cannot be written to" in said
    assert "open/secret.png: The file 'secret.png' cannot be read." in said
    assert (images / "open" / "1.txt").read_text() == "two red circles"
    assert sorted(row["file"] for row in rows(outputs / "o.jsonl") if row["error"]) == [
        "locked/2.png",
        "open/secret.png",
    ]
    assert (refused, len(sentence.splitlines())) == (1, 1)
    assert "o.jsonl cannot be written. Check the permissions" in sentence
