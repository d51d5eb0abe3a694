"""A folder of drawn images, and the embedded model to caption them."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from blip_space.catalogue import TINY_FOLDER, read_folder

COLOURS = ("red", "green", "blue", "orange", "purple")


def draw(file: Path, number: int) -> None:
    """One to four circles of one colour; no two numbers below a thousand give the same file."""
    image = Image.new("RGB", (200 + number // 20, 120), "white")
    pen = ImageDraw.Draw(image)
    for index in range(1 + number % 4):
        left = 10 + 48 * index
        pen.ellipse((left, 40, left + 38, 78), fill=COLOURS[number // 4 % 5])
    image.save(file)


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """No file can grow beyond this size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Twelve images, one of them also under another name, and a file that is none."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for number in range(12):
        draw(folder / f"{number:02}.png", number)
    draw(folder / "more" / "again.png", 3)
    (folder / "broken.jpg").write_text("no image")
    return folder


@pytest.fixture(scope="session")
def tiny() -> Callable[[], Any]:
    """Loads the embedded model once."""
    from blip_space.loading.loader import load_model

    return cache(lambda: load_model(read_folder(TINY_FOLDER)))
