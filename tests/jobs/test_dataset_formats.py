"""Data sets as the libraries for training and evaluation read them: nothing is lost, and nothing added."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at import
import datasets
import webdataset
from pycocoevalcap.cider.cider import Cider
from pycocotools.coco import COCO

from blip_space import images
from blip_space.errors import UserError
from blip_space.jobs.durable_files import Disk
from blip_space.jobs.outputs import dataset_formats, shards
from blip_space.jobs.outputs.output_files import OutputFiles
from blip_space.jobs.outputs.text_format import TextFormat
from blip_space.jobs.records import CaptionRecord
from tests.jobs.folder_fixtures import draw

RECORD = CaptionRecord("1.png", "d", "tiny", "fp32", "en", "", "octopus", 1, 0.1, None)


def records(folder: Path, captions: dict[str, str | None]) -> list[CaptionRecord]:
    """An image and a record for each caption; None is an error."""
    result = []
    for number, (name, caption) in enumerate(captions.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path.with_name("drawn.png"), number)
        path.with_name("drawn.png").rename(path)
        error = None if caption is not None else "It is broken."
        digest = images.digest(path.read_bytes())
        result.append(replace(RECORD, file=name, digest=digest, caption=caption, error=error))
    return result


def output(output_format: str, folder: Path, name: str = "captions.out") -> OutputFiles:
    return OutputFiles(output_format, folder.parent / name, folder, text_format=TextFormat())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def load(tmp_path: Path, *args: Any, **options: Any) -> dict[str, str]:
    """The caption of every row by the name of its image."""
    datasets.disable_progress_bars()
    (rows,) = datasets.load_dataset(*args, **options, cache_dir=str(tmp_path / "cache")).values()
    assert sorted(rows.features) == ["image", "text"]
    return {os.path.basename(row["image"].filename): row["text"] for row in rows}  # noqa: PTH119


CAPTIONS: dict[str, str | None] = {"a.png": "a red circle", "cats/b.png": "007", "c.png": None, "d.png": "2024-01-01"}


def test_datasets_reads_an_imagefolder(folder: Path, tmp_path: Path) -> None:
    """Case dataset-of-pictures."""
    output("imagefolder", folder).write(records(folder, CAPTIONS))
    assert load(tmp_path, "imagefolder", data_dir=str(folder)) == {
        "a.png": "a red circle",
        "b.png": "007",
        "d.png": "2024-01-01",
    }


@pytest.mark.parametrize("texts", [("2024-01-01", "2024-01-02"), ("12", "7"), ("nan", "null"), ("true", "1e5")])
def test_captions_that_look_like_other_types_stay_texts(folder: Path, tmp_path: Path, texts: Sequence[str]) -> None:
    output("imagefolder", folder).write(records(folder, dict(zip(("a.png", "b.png"), texts, strict=True))))
    found = load(tmp_path, "imagefolder", data_dir=str(folder))
    assert [text.strip() for text in found.values()] == list(texts)


@pytest.mark.parametrize("name", ["crash-test-dummy.png", "val/b.png", "dev_1.png", "a train.png"])
def test_a_name_that_looks_like_a_split_gets_a_note_with_calls_that_load_all(
    folder: Path, tmp_path: Path, name: str
) -> None:
    """`datasets` loads that file alone, and drops every caption."""
    results = records(folder, {"a.png": "one", name: "two"})
    (note,) = output("imagefolder", folder).write(results).notes
    assert name in note
    by_card, by_files = note.split("Load with ")[1].removesuffix(".").split(", which reads README.md, or ")
    for command in (by_card, by_files):
        found = eval(command, {"load_dataset": partial(load, tmp_path)})
        assert sorted(found.values()) == ["one", "two"]


def test_the_card_loads_the_images_and_no_text_beside_them(folder: Path, tmp_path: Path) -> None:
    results = records(folder, {"test.png": "one", "cats/b.png": "two"})
    for name in ("test.txt", "cats/b.txt", "more.json"):
        (folder / name).write_text("[]")
    output("imagefolder", folder).write(results)
    assert sorted(load(tmp_path, str(folder)).values()) == ["one", "two"]


@pytest.mark.parametrize("name", ["a::b.png", r"back\slash.png"])
def test_a_name_that_datasets_cannot_load_is_left_out_with_a_message(folder: Path, tmp_path: Path, name: str) -> None:
    results = records(folder, {"a.png": "one", name: "two"})
    assert output("imagefolder", folder).write(results).failed == [(name, dataset_formats.UNLOADABLE)]
    if "::" in name:
        (folder / name).unlink()  # fsspec reads it as two addresses, even if it is not in the metadata
    assert list(load(tmp_path, "imagefolder", data_dir=str(folder)).values()) == ["one"]


@pytest.mark.parametrize("name", ["metadata.csv", "cats/metadata.jsonl"])
def test_other_metadata_beside_the_images_gets_a_note(folder: Path, name: str) -> None:
    results = records(folder, {"a.png": "one", "cats/b.png": "two"})
    (folder / name).write_text("file_name,text\n")
    (note,) = output("imagefolder", folder).write(results).notes
    assert note.startswith(f"{name} is beside the images")


def test_a_folder_whose_name_is_a_pattern_gets_a_note(tmp_path: Path) -> None:
    (folder := tmp_path / "my set?").mkdir()
    (note,) = output("imagefolder", folder).write(records(folder, {"a.png": "one"})).notes
    assert "reads as a pattern" in note


def test_a_card_of_the_user_is_kept(folder: Path) -> None:
    (folder / "README.md").write_text("# My data")
    (note,) = output("imagefolder", folder).write(records(folder, {"test.png": "one"})).notes
    assert "README.md" not in note
    assert (folder / "README.md").read_text() == "# My data"


def test_metadata_that_existed_or_was_edited_is_not_overwritten(folder: Path) -> None:
    results = records(folder, {"a.png": "one"})
    output_files = output("imagefolder", folder)

    class FakeLog:
        def records(self) -> list[CaptionRecord]:
            return results

    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "mine"}\n')
    with pytest.raises(UserError, match=r"metadata\.jsonl was not written by this command"):
        output_files.check(FakeLog())  # type: ignore[arg-type]
    (folder / "metadata.jsonl").unlink()
    output_files.write(results)
    output_files.check(FakeLog())  # type: ignore[arg-type]
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "mine"}\n')
    with pytest.raises(UserError, match=r"metadata\.jsonl was changed since"):
        output_files.check(FakeLog())  # type: ignore[arg-type]


def test_a_data_set_has_readable_images_only(folder: Path, tmp_path: Path) -> None:
    results = records(folder, {"a.png": "one", "b.png": "two"})
    output("imagefolder", folder).write([*results, replace(RECORD, file="gone.png")], unreadable={"b.png"})
    assert load(tmp_path, "imagefolder", data_dir=str(folder)) == {"a.png": "one"}


def test_pycocoevalcap_reads_the_results(folder: Path, tmp_path: Path) -> None:
    output("coco", folder, "r.json").write(records(folder, {"a.png": "red", "b.png": "blue", "c.png": None}))
    with contextlib.redirect_stdout(io.StringIO()):
        table = COCO(str(tmp_path / "r.images.json"))
        results = table.loadRes(str(tmp_path / "r.json"))
    answers = {number: [row["caption"] for row in results.imgToAnns[number]] for number in table.getImgIds()}
    assert {table.imgs[number]["file_name"]: texts for number, texts in answers.items()} == {
        "a.png": ["red"],
        "b.png": ["blue"],
    }
    assert Cider().compute_score({1: ["red"], 2: ["blue"]}, answers)[0] > 0


def samples(tmp_path: Path) -> list[dict[str, Any]]:
    names = sorted(str(path) for path in tmp_path.glob("set-*.tar"))
    return list(webdataset.WebDataset(names, shardshuffle=False, empty_check=False)) if names else []


def test_webdataset_reads_every_image_beside_its_caption(folder: Path, tmp_path: Path) -> None:
    """Everything after the first dot of a name is its extension, so a.1.png and a.2.png became one sample."""
    captions: dict[str, str | None] = {
        "a.1.png": "one", "a.2.png": "two", "a_1.png": "three", "v1.5/b.png": "four", "__x__/c.png": "five",
        "saved": "six", "D.PNG": "seven", "broken.png": None,
    }  # fmt: skip
    results = records(folder, captions)
    assert output("webdataset", folder, "set.tar").write(results).failed == []
    found = samples(tmp_path)
    assert [sample["txt"].decode() for sample in found] == ["one", "two", "three", "four", "five", "six", "seven"]
    for sample, record in zip(found, [record for record in results if record.caption], strict=True):
        assert sample["png"] == (folder / record.file).read_bytes()
        assert json.loads(sample["json"])["file"] == record.file
    assert len({sample["__key__"] for sample in found}) == 7


def test_shards_have_a_maximum_size_and_those_of_a_larger_run_are_removed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_IMAGES", 2)
    results = records(folder, {f"{number}.png": str(number) for number in range(5)})
    output("webdataset", folder, "set.tar").write(results)
    (tmp_path / "set-000007.tar").write_bytes(b"a user's")
    with pytest.raises(UserError, match=r"set-000007\.tar was not written by this command"):
        output("webdataset", folder, "set.tar").check(None)  # type: ignore[arg-type]
    (tmp_path / "set-000007.tar").unlink()
    output("webdataset", folder, "set.tar").check(None)  # type: ignore[arg-type]
    assert [sample["txt"] for sample in samples(tmp_path)] == [b"0", b"1", b"2", b"3", b"4"]
    output("webdataset", folder, "set.tar").write(results[:1])
    assert [path.name for path in tmp_path.glob("*.tar")] == ["set-000000.tar"]


def test_an_image_that_changed_during_the_job_is_in_no_shard(folder: Path, tmp_path: Path) -> None:
    results = records(folder, {"a.png": "one", "b.png": "two"})
    draw(folder / "a.png", 9)
    outcome = output("webdataset", folder, "set.tar").write(results)
    assert outcome.failed == [("a.png", shards.FILE_CHANGED)]
    assert [sample["txt"] for sample in samples(tmp_path)] == [b"two"]


def test_a_shard_that_cannot_be_written_leaves_no_incomplete_file(folder: Path, tmp_path: Path) -> None:
    class FullDisk(Disk):
        def sync(self, _: io.FileIO) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        shards.write_shards(records(folder, {"a.png": "one"}), folder, tmp_path / "set.tar", FullDisk())
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
