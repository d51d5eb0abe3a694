"""Images are read ahead by threads, which also prepare what was only hashed before the model was loaded."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_space.jobs.image_reader import ImageReader, default_workers
from tests.example_images import blue_circles

FILES = [f"{number}.png" for number in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, file in enumerate(FILES):
        # bytes after the end of a PNG are no part of the image
        (tmp_path / file).write_bytes(blue_circles() + bytes([number]))
    return tmp_path


def prepare(_: Any) -> str:
    return threading.current_thread().name


def test_what_was_hashed_before_the_model_was_loaded_is_prepared_by_the_threads(folder: Path) -> None:
    """The caller's thread prepared up to 128 images, one after another, while the model waited."""
    reader = ImageReader(folder, workers=1, prefetch=len(FILES), is_wanted=lambda file, _: file != "5.png")
    loaded = reader.load_all(FILES)
    first = next(loaded)
    reader._pool.submit(str).result()  # after it the only thread has hashed all files
    reader.prepare = prepare
    rest = list(loaded)
    assert first.prepared is None
    assert [image.file for image in (first, *rest)] == FILES
    names = {image.file: image.prepared for image in rest}
    assert names.pop("5.png") is None
    assert all(name.startswith("images") for name in names.values())


def test_hashed_files_are_prepared_before_files_that_are_needed_later(folder: Path) -> None:
    """The first batch of a GPU waited for the second."""
    prepared = list[int]()

    def note(image: Any) -> str:
        prepared.append(image.width)
        return prepare(image)

    for number, file in enumerate(FILES):
        Image.new("RGB", (number + 1, 1)).save(folder / file)
    reader = ImageReader(folder, workers=1, prefetch=4, is_wanted=lambda *_: True)
    loaded = reader.load_all(FILES)
    next(loaded)
    reader._pool.submit(str).result()
    reader.prepare, reader.prefetch = note, len(FILES)
    assert len(list(loaded)) == len(FILES) - 1
    assert prepared == [2, 3, 4, 5, 6, 7, 8]


def test_more_are_read_ahead_once_a_larger_batch_needs_them(folder: Path) -> None:
    hashed = list[str]()

    def note(file: str, _: str) -> bool:
        hashed.append(file)
        return True

    reader = ImageReader(folder, workers=1, prefetch=2, is_wanted=note)
    loaded = reader.load_all(FILES)
    next(loaded)
    reader.prepare, reader.prefetch = prepare, 6
    next(loaded)
    reader._pool.submit(str).result()
    assert set(hashed) == set(FILES[:7])
    loaded.close()


def test_the_caller_works_while_the_next_file_is_not_loaded(folder: Path) -> None:
    """A GPU waited for every image, though others were there."""
    release, worked = threading.Event(), list[str]()
    reader = ImageReader(folder, workers=1, prefetch=2, is_wanted=lambda *_: release.wait(5))

    def work() -> bool:
        worked.append(threading.current_thread().name)
        if len(worked) == 3:
            release.set()
        return len(worked) < 4

    reader.while_waiting = work
    assert [image.file for image in reader.load_all(FILES)] == FILES
    assert len(worked) >= 3
    assert set(worked) == {threading.current_thread().name}


def test_the_caller_waits_if_it_has_no_work(folder: Path) -> None:
    asked = list[int]()
    reader = ImageReader(folder, workers=1, prefetch=2, is_wanted=lambda *_: True)

    def has_none() -> bool:
        asked.append(1)
        return False

    reader.while_waiting = has_none
    assert len(list(reader.load_all(FILES))) == len(FILES)
    assert len(asked) <= len(FILES)


@pytest.mark.parametrize(("processors", "workers"), [(1, 2), (2, 2), (5, 2), (6, 3), (16, 8), (128, 8)])
def test_half_of_the_processors_read_images(monkeypatch: pytest.MonkeyPatch, processors: int, workers: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    assert default_workers() == workers
    reader = ImageReader(Path(), workers=None, prefetch=1, is_wanted=lambda *_: True)
    assert reader._pool._max_workers == workers
