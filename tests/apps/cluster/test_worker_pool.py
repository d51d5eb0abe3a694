"""A folder captioned by the workers of a cluster, also when workers and machines are lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from benchmarks.cluster import LocalCluster
from blip_space.apps import cli
from blip_space.apps.cluster import worker
from blip_space.apps.cluster.connection import cluster_errors, connect
from blip_space.errors import UserError
from tests.jobs.folder_fixtures import draw

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = ("--quality", "stream", "--max-new-tokens", "12", "--batch-size", "4")
IMAGES = 240


def arguments(folder: Path, output: Path, *more: str) -> list[str]:
    return ["folder", str(folder), "--output", str(output), *OPTIONS, *more]


class Process:
    """The command in a process of its own."""

    def __init__(self, *args: str) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", "blip_space", *args], cwd=ROOT, stdout=pipe, stderr=pipe, text=True
        )

    def wait_for(self, output: Path, lines: int) -> None:
        """Until the output has that many lines, but not all."""
        while (count := output.read_bytes().count(b"\n") if output.exists() else 0) < lines:
            assert self._process.poll() is None, self._process.communicate()
            time.sleep(0.01)
        assert count < IMAGES

    def end(self) -> tuple[int, str, str]:
        out, err = self._process.communicate(timeout=120)
        return self._process.returncode, out, err


def captions(file: Path) -> dict[str, tuple[Any, ...]]:
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    results = {row["file"]: (row["caption"], row["tokens"], row["digest"], row["precision"]) for row in rows}
    assert len(results) == len(rows), "an image has two lines"
    return results


def test_after_a_killed_worker_and_a_killed_machine_each_image_has_the_same_line_as_without_a_cluster(
    machines: LocalCluster, tmp_path: Path
) -> None:
    """The full version is `python -m benchmarks.crash_recovery --ray`."""
    folder, output = tmp_path / "images", tmp_path / "cluster.jsonl"
    folder.mkdir()
    for number in range(IMAGES - 2):
        draw(folder / f"{number:03}.png", number)
    draw(folder / "again.png", 3)
    (folder / "broken.webp").write_text("no picture")
    assert cli.main(arguments(folder, tmp_path / "alone.jsonl")) == 1
    job = Process(*arguments(folder, output, "--ray", machines.address, "--json"))
    job.wait_for(output, 12)
    machines.worker_processes("MapWorker")[0].kill()
    job.wait_for(output, 60)
    machines.kill_node()
    code, out, err = job.end()
    machines.add_node()
    assert code == 1
    assert "broken.webp: The file is not an image" in err
    assert captions(output) == captions(tmp_path / "alone.jsonl")
    last = [json.loads(line) for line in out.splitlines()][-1]
    assert (last["event"], last["written"], last["copied"], last["errors"]) == ("end", IMAGES - 2, 1, 1)


def test_an_image_that_kills_its_worker_is_tried_three_times_and_the_others_are_captioned(
    machines: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray repeats a dead worker's batch without limit, so the job never ended."""
    folder, attempts = tmp_path / "images", tmp_path / "attempts"
    folder.mkdir()
    for number in range(4):
        draw(folder / f"{number}.png", number)
    attempts.touch()

    class CrashingWorker(worker.Worker):
        """Simulates a native decoder that crashes."""

        def _load_image(self, row: worker.Row) -> Any:
            if row["file"] == "2.png":
                with attempts.open("a") as file:
                    file.write("x")
                os._exit(1)
            return super()._load_image(row)

    monkeypatch.setattr(worker, "Worker", CrashingWorker)
    output = tmp_path / "c.jsonl"
    assert cli.main(arguments(folder, output, "--ray", machines.address)) == 1
    assert "2.png: Its worker died 3 times while it had this image" in capsys.readouterr().err
    assert {name: row[0] for name, row in captions(output).items()} == {
        "0.png": "a red circle",
        "1.png": "two red circles",
        "2.png": None,
        "3.png": "four red circles",
    }
    assert attempts.read_text() == "xxx"


def test_the_same_command_contacts_no_cluster_when_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "a.png", 1)
    assert cli.main(arguments(tmp_path, tmp_path / "c.jsonl")) == 0
    capsys.readouterr()
    assert cli.main(arguments(tmp_path, tmp_path / "c.jsonl", "--ray", "127.0.0.1:1")) == 0
    assert "1 were there" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nonsense", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_one_line(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "a.png", 1)
    assert cli.main(arguments(tmp_path, tmp_path / "c.jsonl", "--ray", address)) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"blip-space: There is no cluster at {address!r}. Name the HOST:PORT")
    assert len(message.splitlines()) == 1


def test_without_ray_the_message_names_the_command_that_installs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("blip_space.apps.cluster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    draw(tmp_path / "a.png", 1)
    assert cli.main(arguments(tmp_path, tmp_path / "c.jsonl", "--ray", "local")) == 1
    (command,) = re.findall(r"pip install '(.+)'", capsys.readouterr().err)
    assert f'"{command}"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_an_error_on_another_machine_is_a_user_error_with_its_cause(machines: LocalCluster) -> None:
    connect(machines.address)
    try:
        with (
            pytest.raises(UserError, match=r"The cluster failed: .*No module named 'nowhere'\. Every machine needs"),
            cluster_errors(),
        ):
            ray.get(ray.remote(lambda: __import__("nowhere")).remote())
    finally:
        ray.shutdown()
