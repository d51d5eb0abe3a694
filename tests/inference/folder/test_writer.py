"""Laws of writing many captions at once, with a model of words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from blip_space.inference.folder.reader import Seen
from blip_space.inference.folder.record import Task
from blip_space.inference.folder.captions import Wish, Captioner
from blip_space.options import GenerationOptions, check
from tests.inference.fake_model import FakeModel, spec

TASKS = [Task("fake", "fp32", "en", f"What is {number}?", GenerationOptions()) for number in range(6)]
WISHES = [Wish(Seen(f"{number}.png", str(number), prepared=number), task) for number, task in enumerate(TASKS)]


class FolderModel(FakeModel):
    """Takes a folder's pictures as it takes a visitor's."""

    def expect_many(self) -> None:
        """It has one processor."""

    def encode_pixels(self, parts: list[Any]) -> torch.Tensor:
        return self.encode(parts)


@pytest.mark.timeout(60)
def test_when_memory_runs_out_what_was_being_written_is_written_again() -> None:
    """Rows that were lost with the batch would be captions that vanish without a line."""
    model: Any = FolderModel(spec())
    model.exhausted = 2
    writer = Captioner(model, batch_size=4)
    written = [*writer.add(WISHES), *writer.finish()]
    assert {one.wish.seen.file: one.caption for one in written} == {
        f"{number}.png": f"Question: What is {number}? Short answer in English:" for number in range(6)
    }
    assert model.most_rows == 4


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_a_picture_that_the_model_cannot_read_ends_alone(quality: str) -> None:
    """All that were to be read with it had an error as well."""

    class Picky(FolderModel):
        def encode_pixels(self, parts: list[Any]) -> torch.Tensor:
            if 3 in parts:
                raise RuntimeError("a bug")
            return super().encode_pixels(parts)

    model: Any = Picky(spec())
    tasks = [replace(task, options=check(quality=quality)) for task in TASKS]
    writer = Captioner(model, batch_size=20)
    wishes = [Wish(wish.seen, task) for wish, task in zip(WISHES, tasks, strict=True)]
    written = [*writer.add(wishes), *writer.finish()]
    assert sorted(one.wish.seen.file for one in written) == [f"{number}.png" for number in range(6)]
    assert [one.wish.seen.file for one in written if one.error] == ["3.png"]
