"""The command `folder` resumes: it reuses captions of the same folder, model and options, and no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from blip_space.engine.model_runner import ModelRunner
from blip_space.engine.plan import Plan
from blip_space.jobs.folder_listing import MANIFEST_NAME
from blip_space.loading import loader
from tests.apps.cli.folder_command import Run, read_captions, read_rows
from tests.checkpoints import blip2
from tests.jobs.folder_fixtures import draw
from tests.lost_device import lose_device


def test_a_job_of_an_earlier_version_is_resumed(run: Run, folder: Path, tmp_path: Path) -> None:
    """Its records have the name of the model only, and its tables and text files are in no manifest."""
    run("--format", "json", output="o.json")
    run("--format", "txt", output="o.jsonl")
    (folder / MANIFEST_NAME).unlink()
    (tmp_path / MANIFEST_NAME).unlink()
    for name in ("o.json.jsonl", "o.jsonl"):
        old = [
            {key: row[key] for key in row if key not in ("fingerprint", "repeats", "edited")}
            for row in read_rows(tmp_path / name)
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in old))
    (tmp_path / "o.json").write_text(json.dumps(old, indent=1))
    draw(folder / "3.png", 2)
    code, err = run("--format", "json", output="o.json")
    assert (code, "1 captions generated" in err, "2 already done" in err) == (0, True, True)
    assert err.count("records that name only their model") == 1
    assert len(json.loads((tmp_path / "o.json").read_text())) == 3
    assert run("--format", "txt", "--prefix", "sks ")[0] == 0
    assert run("--format", "txt")[0] == 0
    assert (folder / "3.txt").read_text() == "three red circles"


def test_after_a_failed_gpu_all_records_are_kept_and_the_same_command_resumes(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(folder / "3.png", 2)
    with monkeypatch.context() as lost:
        plain, steps = ModelRunner.run, list[int]()

        def fail_later(self: ModelRunner, plan: Plan) -> None:
            steps.append(1)
            if len(steps) > 4 and plan.admitted:
                lose_device()
            plain(self, plan)

        lost.setattr(ModelRunner, "run", fail_later)
        code, err = run("--batch-size", 1)
    assert code == 70
    assert err.count("The GPU failed, and this process cannot use it any more") == 1
    assert "All captions so far are saved; the same command resumes." in err
    kept = read_rows(tmp_path / "o.jsonl")
    assert 0 < len(kept) < 3
    assert not any(row["error"] for row in kept), "an image is not to blame"
    code, err = run("--batch-size", 1)
    assert (code, f"{len(kept)} already done, 0 errors" in err) == (0, True)


def test_another_folder_on_the_same_output_is_refused(run: Run, tmp_path: Path) -> None:
    """Case two-folders-one-output: the record of the first folder's 1.png was deleted silently."""
    run()
    before = (tmp_path / "o.jsonl").read_bytes()
    other = tmp_path / "dogs"
    other.mkdir()
    draw(other / "1.png", 9)
    for existing in ("skip", "append"):
        code, err = run("--existing", existing, folder=other)
        assert (code, (tmp_path / "o.jsonl").read_bytes()) == (1, before)
        assert "o.jsonl holds captions of other images: none of its 2" in err
    assert run("--existing", "overwrite", folder=other)[0] == 0
    assert read_captions(tmp_path / "o.jsonl") == {"1.png": "two blue circles"}


def test_a_folder_that_shares_some_images_is_another_folder(run: Run, folder: Path, tmp_path: Path) -> None:
    """With one duplicate image, or a folder inside the first, the records of the second replaced those of the first."""
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
    for another in (folder / "cats", other):
        code, err = run(folder=another)
        assert (code, (tmp_path / "o.jsonl").read_bytes()) == (1, before)
        assert "holds captions of other images: only 1 of its 6 images can be found in" in err


def test_a_folder_with_renumbered_images_is_resumed(run: Run, folder: Path, tmp_path: Path) -> None:
    for number in (3, 4, 5):
        draw(folder / f"{number}.png", number)
    run()
    (folder / "1.png").unlink()
    for number in (2, 3, 4, 5):
        (folder / f"{number}.png").rename(folder / f"{number - 1}.png")
    code, err = run()
    assert (code, "4 copied from duplicate images" in err) == (0, True)
    assert read_captions(tmp_path / "o.jsonl")["1.png"] == "two red circles"


def test_a_moved_folder_with_renamed_files_is_resumed(run: Run, folder: Path, tmp_path: Path) -> None:
    run()
    moved = folder.rename(tmp_path / "elsewhere")
    assert "2 already done" in run(folder=moved)[1]
    for number in (1, 2):
        (moved / f"{number}.png").rename(moved / f"new{number}.png")
    assert "2 copied from duplicate images" in run(folder=moved)[1]
    assert "2 already done" in run("--glob", "new*", folder=moved)[1]


def test_a_run_that_fails_before_its_first_caption_keeps_the_old_ones(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--existing overwrite` emptied the output before anything was checked."""
    run()
    before = (tmp_path / "o.jsonl").read_bytes()
    assert run("--existing", "overwrite", "--precision", "fp16")[0] == 1
    monkeypatch.setattr(loader, "load_model", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("--existing", "overwrite")[0] == 130
    assert (tmp_path / "o.jsonl").read_bytes() == before


def test_tables_have_the_existing_images_with_the_options_of_the_job(run: Run, folder: Path, tmp_path: Path) -> None:
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


def test_a_checkpoint_never_reuses_captions_of_another_with_its_name(run: Run, tmp_path: Path) -> None:
    """Two folders called checkpoint-100 shared their captions, and an adapter reused those of the base model."""
    for name, seed in (("a", 0), ("b", 1)):
        blip2.write(tmp_path / name / "checkpoint-100", "opt", seed=seed)
    first, other = (tmp_path / name / "checkpoint-100" for name in ("a", "b"))
    assert "2 captions generated" in run("--model", first)[1]
    assert "2 captions generated" in run("--model", other)[1]
    copied = shutil.copytree(first, tmp_path / "c" / "checkpoint-100")
    assert "2 already done" in run("--model", copied)[1]
    assert len({row["fingerprint"] for row in read_rows(tmp_path / "o.jsonl")}) == 2


def test_a_stopped_run_names_the_command_that_resumes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blip_space.apps.cli.folder.FolderRun.run", stopped)
    assert "the same command resumes" in run()[1]
    assert "the same command with --existing skip resumes" in run("--existing", "overwrite")[1]
    assert "starts over with the first image" in run("--existing", "append")[1]


def stopped(self: Any) -> Any:
    self.progress.cancelled = True
    return self.progress
