"""What a worker returns, and what the pool does with duplicate and missing results; without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from blip_space.apps.cluster import worker as workers
from blip_space.apps.cluster.connection import WorkerResources, resources_per_worker
from blip_space.apps.cluster.worker import FILE_CHANGED, Row, Worker, read_files
from blip_space.apps.cluster.worker_pool import WorkerPool
from blip_space.catalogue import TINY_FOLDER, read_folder
from blip_space.engine import batch_size
from blip_space.errors import DeviceError, UserError
from blip_space.images import digest
from blip_space.jobs.folder_captioner import Caption, Captioner, PendingCaption
from blip_space.jobs.image_reader import LoadedImage
from blip_space.jobs.records import CaptionTask
from blip_space.options import GenerationOptions
from tests.jobs.folder_fixtures import draw
from tests.lost_device import lose_device
from tests.serving.fakes import wait_until

TASKS = [CaptionTask("tiny", "fp32", code, "", GenerationOptions(max_new_tokens=12)) for code in ("en", "de")]
SPEC = read_folder(TINY_FOLDER)


@pytest.mark.parametrize("is_on_gpu", [True, False])
def test_a_changed_or_deleted_image_has_an_error_and_the_others_are_captioned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_on_gpu: bool
) -> None:
    """A GPU captions the first ones while others are loaded."""
    monkeypatch.setattr(batch_size, "is_on_gpu", lambda _: is_on_gpu)
    steps, step = list[int](), Captioner.step
    if is_on_gpu:  # the next image is loaded once there was a step

        def counted(captioner: Captioner) -> Iterator[list[Caption]]:
            steps.append(len(captioner._pending))
            return step(captioner)

        def load_slowly(worker: Worker, row: Row) -> LoadedImage:
            if row["number"] == 1:
                wait_until(lambda: bool(steps))
            return load(worker, row)

        load = Worker._load_image
        monkeypatch.setattr(Captioner, "step", counted)
        monkeypatch.setattr(Worker, "_load_image", load_slowly)
    rows = []
    for number in range(3):
        draw(file := tmp_path / f"{number}.png", number)
        rows.append({"number": number, "file": file.name, "digest": digest(file.read_bytes()), "tasks": [0, 1]})
    draw(tmp_path / "1.png", 9)
    (tmp_path / "2.png").unlink()
    table = pyarrow.Table.from_pydict(read_files(pyarrow.Table.from_pylist(rows), tmp_path))
    columns = Worker(SPEC, TASKS, batch_size=8, threads=1, device="cpu")(table)
    results = dict[tuple[int, int], str]()
    for row in pyarrow.table(columns).to_pylist():
        results[row["number"], row["task"]] = row["caption"] or row["error"]
    assert results[0, 0] == "a red circle"
    assert results[0, 1] == "ein roter Kreis"
    assert results[1, 0] == results[1, 1] == FILE_CHANGED
    assert results[2, 0].startswith("There is no file '2.png'")
    assert len(results) == 6
    assert bool(steps) == is_on_gpu


def test_a_worker_whose_gpu_failed_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray starts another one, which captions the same images."""
    ended = list[bool]()
    monkeypatch.setattr(workers, "end_process", lambda: ended.append(True))
    draw(file := tmp_path / "0.png", 0)
    row = {"number": 0, "file": file.name, "digest": digest(file.read_bytes()), "tasks": [0]}
    table = pyarrow.Table.from_pydict(read_files(pyarrow.Table.from_pylist([row]), tmp_path))
    worker = Worker(SPEC, TASKS, batch_size=2, threads=1, device="cpu")
    monkeypatch.setattr("blip_space.engine.model_runner.ModelRunner.run", lose_device)
    with pytest.raises(DeviceError):
        worker(table)
    assert ended == [True]


def test_a_gpu_by_its_number_is_refused_and_a_cpu_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}}
    monkeypatch.setattr("blip_space.apps.cluster.connection.ray.nodes", lambda: [machine])
    assert resources_per_worker(SPEC, "auto") == WorkerResources(2, {"num_cpus": 1, "num_gpus": 1})
    assert resources_per_worker(SPEC, "cpu") == WorkerResources(4, {"num_cpus": 1, "num_gpus": 0})
    with pytest.raises(UserError, match=r"so cuda:1 cannot be chosen\. Choose auto or cpu\."):
        resources_per_worker(SPEC, "cuda:1")


class FakePool(WorkerPool):
    """A pool whose cluster returns these rows."""

    rows: list[Row]

    def _results(self, *_: Any) -> Iterator[list[Row]]:
        yield self.rows


@pytest.fixture
def pool(tmp_path: Path) -> FakePool:
    return FakePool("local", SPEC, tmp_path, batch_size=None, threads=1)


PENDING = [[PendingCaption(LoadedImage(name, name), TASKS[0])] for name in ("a.png", "b.png")]


def test_a_duplicate_result_is_taken_once_and_a_missing_one_is_reported(pool: FakePool) -> None:
    row = {"number": 0, "task": 0, "caption": "one", "tokens": 1, "seconds": 0.1, "error": None, "load_error": None}
    pool.rows = [row, row]
    batches = pool.caption(PENDING)
    assert [caption.pending.image.file for caption in next(batches)] == ["a.png"]
    with pytest.raises(UserError, match=r"1 captions are missing\. Run the same command again"):
        next(batches)


def test_a_model_that_does_not_load_in_a_worker_ends_the_job_with_its_error(pool: FakePool) -> None:
    broken = replace(SPEC, load_error="The folder holds no model. Copy it again.")
    columns = Worker(broken, TASKS, batch_size=2, threads=1)(pyarrow.table({}))
    pool.rows = pyarrow.table(columns).to_pylist()
    with pytest.raises(UserError, match=r"The folder holds no model\. Copy it again\."):
        next(pool.caption(PENDING))
