"""What each caller has on the disk is counted, and the oldest uploads make room for new ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from blip_space.apps import uploads
from blip_space.apps.gradio_api.batches import Batches
from blip_space.apps.uploads import Limits, Shortage, Upload, UploadStorage, in_use
from blip_space.jobs.records import CaptionTask
from blip_space.options import GenerationOptions
from tests.apps.fake_engine import PARROT, FakeEngine

TASK = CaptionTask("parrot", "fp32", "en", "", GenerationOptions())
LIMITS = Limits(caller_bytes=100, caller_files=5, total_bytes=250, total_files=12, free_bytes=0)


class Disk:
    """A folder of uploads with a clock that tests move."""

    def __init__(self, folder: Path, limits: Limits = LIMITS) -> None:
        self.folder, self.now = folder, 1e9
        self.storage = UploadStorage(folder, limits, clock=lambda: self.now)

    def store(self, owner: str, name: str, size: int) -> Path:
        """Store a file for this caller, as an upload does."""
        path = self.folder / name / "a.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        upload = Upload(owner)
        self.storage.add(upload, size, 1)
        self.storage.keep(upload, [path])
        self.storage.end(upload, is_deleted=False)
        return path


@pytest.fixture(autouse=True)
def _nothing_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of these tests are older than their clock says."""
    monkeypatch.setattr(uploads, "delete_expired", lambda *_, **__: None)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "uploads")


def test_a_callers_bytes_and_files_are_limited(disk: Disk) -> None:
    disk.store("a", "1", 100)
    assert disk.storage.shortage("a") is None
    disk.store("a", "2", 1)
    assert disk.storage.shortage("a") is Shortage.CALLER
    for number in range(6):
        disk.store("b", f"b{number}", 1)
    assert disk.storage.shortage("b") is Shortage.CALLER
    assert disk.storage.shortage("c") is None


def test_what_is_arriving_counts_until_it_is_deleted(disk: Disk) -> None:
    upload = Upload("a")
    disk.storage.add(upload, 101, 1)
    assert disk.storage.shortage("a") is Shortage.CALLER
    disk.storage.end(upload, is_deleted=True)
    assert disk.storage.shortage("a") is None


def test_what_is_not_stored_under_a_name_counts_until_it_is_deleted(disk: Disk) -> None:
    upload = Upload("a")
    disk.storage.add(upload, 101, 1)
    disk.storage.end(upload, is_deleted=False)
    disk.storage.sweep("a")
    assert disk.storage.shortage("a") is Shortage.CALLER
    disk.now += uploads.PARTIAL_SECONDS + 1
    disk.storage.sweep("a")
    assert disk.storage.shortage("a") is None


def test_all_callers_together_are_limited(disk: Disk) -> None:
    for owner in "abc":
        disk.store(owner, owner, 90)
    assert disk.storage.shortage("d") is Shortage.DISK


def test_a_file_that_is_stored_twice_counts_once(disk: Disk) -> None:
    for _ in range(3):
        disk.store("a", "1", 60)
    assert disk.storage.shortage("a") is None


def test_a_callers_oldest_uploads_make_room_for_its_own(disk: Disk) -> None:
    others = disk.store("b", "b", 50)
    old, new = disk.store("a", "1", 60), disk.store("a", "2", 60)
    disk.storage.sweep("a")
    assert old.exists()  # it is too young
    disk.now += uploads.MIN_AGE_SECONDS + 1
    disk.storage.sweep("a")
    assert [path.exists() for path in (others, old, new)] == [True, False, True]
    assert disk.storage.shortage("a") is None


def test_who_has_most_makes_room_on_a_full_disk(disk: Disk) -> None:
    small, large = disk.store("a", "1", 70), [disk.store("b", f"b{number}", 50) for number in range(2)]
    disk.store("c", "c", 100)
    disk.now += uploads.MIN_AGE_SECONDS + 1
    disk.storage.sweep("d")
    assert small.exists()
    assert sum(path.exists() for path in large) + (disk.folder / "c").is_dir() < 3
    assert disk.storage.shortage("d") is None


def test_a_file_in_use_stays(disk: Disk) -> None:
    old, new = disk.store("a", "1", 60), disk.store("a", "2", 60)
    disk.now += uploads.MIN_AGE_SECONDS + 1
    with in_use([old]):
        disk.storage.sweep("a")
    assert (old.exists(), new.exists()) == (True, False)
    disk.store("a", "3", 60)
    disk.now += uploads.MIN_AGE_SECONDS + 1
    disk.storage.sweep("a")
    assert not old.exists()


def test_the_files_of_a_running_batch_are_in_use(disk: Disk) -> None:
    file = disk.store("a", "1", 60)
    updates = Batches(FakeEngine(PARROT)).run("session", [("a.png", file)], TASK)
    next(updates)
    disk.store("a", "2", 60)
    disk.now += uploads.MIN_AGE_SECONDS + 1
    disk.storage.sweep("a")
    assert file.exists()
    updates.close()  # type: ignore[attr-defined]
    assert not uploads._in_use


def test_the_files_of_an_earlier_server_and_of_gradio_count(disk: Disk) -> None:
    for name in "xyz":
        disk.store("", name, 90)
    storage = Disk(disk.folder).storage
    assert storage.shortage("a") is Shortage.DISK
    shutil.rmtree(disk.folder / "x")
    storage.sweep("a")
    assert storage.shortage("a") is None


def test_temporary_files_and_empty_folders_are_deleted_when_they_are_old(disk: Disk) -> None:
    half, new, empty = disk.folder / "tmp1", disk.folder / "tmp2", disk.folder / "empty"
    empty.mkdir()
    for file in (half, new):
        file.write_bytes(b"half an image")
    for path in (half, empty):
        os.utime(path, (0, 0))
    os.utime(new, (disk.now, disk.now))
    Disk(disk.folder)
    assert list(disk.folder.iterdir()) == [new]


class Usage(NamedTuple):
    """As `shutil.disk_usage` returns it."""

    total: int
    used: int
    free: int


def test_uploads_are_deleted_when_the_disk_is_full(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """No caller is over a limit; another program fills the disk."""
    files = [disk.store("a", "1", 10), disk.store("b", "2", 20)]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 100, -files[1].exists()))
    disk.now += uploads.MIN_AGE_SECONDS + 1
    disk.storage.sweep("c")
    assert [file.exists() for file in files] == [True, False]


def test_a_missing_folder_is_created(disk: Disk) -> None:
    shutil.rmtree(disk.folder)
    assert disk.storage.shortage("a") is None
    assert disk.folder.is_dir()
