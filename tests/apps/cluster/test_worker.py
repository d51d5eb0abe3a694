"""What a worker answers, and what the crew makes of answers that come twice or not at all; without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from blip_space.apps.cluster.worker import FILE_CHANGED, Row, Worker, read_files
from blip_space.apps.cluster.worker_pool import WorkerPool
from blip_space.catalogue import TINY_FOLDER, read_folder
from blip_space.errors import UserError
from blip_space.images import digest
from blip_space.jobs.folder_captioner import PendingCaption
from blip_space.jobs.image_reader import LoadedImage
from blip_space.jobs.records import CaptionTask
from blip_space.options import GenerationOptions
from tests.jobs.folder_fixtures import draw

TASKS = [CaptionTask("tiny", "fp32", code, "", GenerationOptions(max_new_tokens=12)) for code in ("en", "de")]
SPEC = read_folder(TINY_FOLDER)


def test_a_picture_that_was_changed_or_taken_away_is_told_and_the_others_are_captioned(
    tmp_path: Path,
) -> None:
    rows = []
    for number in range(3):
        draw(file := tmp_path / f"{number}.png", number)
        rows.append({"number": number, "file": file.name, "digest": digest(file.read_bytes()), "tasks": [0, 1]})
    draw(tmp_path / "1.png", 9)
    (tmp_path / "2.png").unlink()
    there = pyarrow.Table.from_pydict(read_files(pyarrow.Table.from_pylist(rows), tmp_path))
    told = Worker(SPEC, TASKS, batch_size=2, threads=1)(there)
    found = dict[tuple[int, int], str]()
    for number, task, caption, error in zip(told["number"], told["task"], told["caption"], told["error"], strict=True):
        found[number, task] = caption or error
    assert found[0, 0] == "a red circle"
    assert found[0, 1] == "ein roter Kreis"
    assert found[1, 0] == found[1, 1] == FILE_CHANGED
    assert found[2, 0].startswith("There is no file '2.png'")
    assert len(found) == 6


class Repeating(WorkerPool):
    """A crew whose cluster answers with these rows."""

    rows: list[Row]

    def _answers(self, *_: Any) -> Iterator[list[Row]]:
        yield self.rows


@pytest.fixture
def crew(tmp_path: Path) -> Repeating:
    return Repeating("local", SPEC, tmp_path, batch_size=None, threads=1)


WISHES = [[PendingCaption(LoadedImage(name, name), TASKS[0])] for name in ("a.png", "b.png")]


def test_what_comes_twice_is_taken_once_and_what_does_not_come_is_told(crew: Repeating) -> None:
    row = {"number": 0, "task": 0, "caption": "one", "tokens": 1, "seconds": 0.1, "error": None, "fault": None}
    crew.rows = [row, row]
    came = crew.caption(WISHES)
    assert [written.pending.image.file for written in next(came)] == ["a.png"]
    with pytest.raises(UserError, match=r"1 captions did not come back\. The same command asks for them again"):
        next(came)


def test_a_model_that_does_not_load_in_a_worker_ends_the_job_with_its_sentence(crew: Repeating) -> None:
    broken = replace(SPEC, load_error="The folder holds no model. Copy it again.")
    columns = Worker(broken, TASKS, batch_size=2, threads=1)(pyarrow.table({}))
    crew.rows = pyarrow.table(columns).to_pylist()
    with pytest.raises(UserError, match=r"The folder holds no model\. Copy it again\."):
        next(crew.caption(WISHES))
