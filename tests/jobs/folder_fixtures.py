"""A folder of drawn pictures, and the embedded model to caption them."""

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
    for place in range(1 + number % 4):
        left = 10 + 48 * place
        pen.ellipse((left, 40, left + 38, 78), fill=COLOURS[number // 4 % 5])
    image.save(file)


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """The system writes no longer file, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve pictures, one of them twice under another name, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for number in range(12):
        draw(folder / f"{number:02}.png", number)
    draw(folder / "more" / "again.png", 3)
    (folder / "broken.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="session")
def tiny() -> Callable[[], Any]:
    """Loads the embedded model once."""
    from blip_space.loading.loader import load_model

    return cache(lambda: load_model(read_folder(TINY_FOLDER)))
