"""Laws of writing many captions at once, with a model of words."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from blip_space.engine.output import Output
from blip_space.engine.request import PreparedImage
from blip_space.jobs import folder_captioner
from blip_space.jobs.folder_captioner import CAPTION_FAILED, SMALL_PARAMETERS, Captioner, PendingCaption
from blip_space.jobs.image_reader import LoadedImage
from blip_space.jobs.records import CaptionTask
from blip_space.models import threads
from blip_space.models.preparation import ImageInfo
from blip_space.options import ANSWER_LENGTH_PENALTY, GenerationOptions, check
from tests.engine.fake_model import FakeModel, SizedModel, spec

SMALL = PreparedImage(torch.zeros(1, 1), 1, 1)
TASKS = [CaptionTask("fake", "fp32", "en", f"What is {number}?", GenerationOptions()) for number in range(6)]
WISHES = [
    PendingCaption(
        LoadedImage(f"{number}.png", str(number), prepared=PreparedImage(torch.full((1, 1), number), 1, 1)), task
    )
    for number, task in enumerate(TASKS)
]


@pytest.mark.timeout(60)
def test_when_memory_runs_out_what_was_being_written_is_written_again() -> None:
    """Rows that were lost with the batch would be captions that vanish without a line."""
    model: Any = FakeModel(spec())
    model.memory_rows = 2
    writer = Captioner(model, batch_size=4)
    written = [*writer.add(WISHES), *writer.finish()]
    assert {one.pending.image.file: one.caption for one in written} == {
        f"{number}.png": f"Question: What is {number}? Short answer in English:" for number in range(6)
    }
    assert model.largest_batch == 4


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_a_picture_that_the_model_cannot_read_ends_alone(quality: str) -> None:
    """All that were to be read with it had an error as well."""

    class Picky(FakeModel):
        def encode_images(self, pixels: Sequence[Any]) -> list[torch.Tensor]:
            if any(int(part) == 3 for part in pixels):
                raise RuntimeError("a bug")
            return super().encode_images(pixels)

    model: Any = Picky(spec())
    tasks = [replace(task, options=check(quality=quality)) for task in TASKS]
    writer = Captioner(model, batch_size=20)
    wishes = [PendingCaption(wish.image, task) for wish, task in zip(WISHES, tasks, strict=True)]
    written = [*writer.add(wishes), *writer.finish()]
    assert sorted(one.pending.image.file for one in written) == [f"{number}.png" for number in range(6)]
    assert [(one.pending.image.file, one.error) for one in written if one.error] == [("3.png", CAPTION_FAILED)]


def test_what_was_aborted_does_not_come_with_what_is_asked_next() -> None:
    """L11: a worker of a cluster that lived on answered its next call with the last one's captions."""
    model: Any = FakeModel(spec())
    captioner = Captioner(model, batch_size=2)
    assert not list(captioner.add(WISHES[:1]))
    captioner.abort()
    assert [one.pending.image.file for one in [*captioner.add(WISHES[1:2]), *captioner.finish()]] == ["1.png"]


def test_a_task_that_cannot_be_asked_has_an_error_for_each_image_and_the_others_go_on() -> None:
    long = replace(TASKS[0], prompt="word " * 600 + "?")
    captioner = Captioner(FakeModel(spec()), batch_size=2)  # type: ignore[arg-type]
    wishes = [PendingCaption(WISHES[0].image, long), *WISHES[1:3]]
    written = {one.pending.image.file: one for one in [*captioner.add(wishes), *captioner.finish()]}
    assert "tokens long" in (written["0.png"].error or "")
    assert [written[f"{number}.png"].error for number in (1, 2)] == [None, None]


@pytest.mark.parametrize("first", ["stream", "best"])
def test_no_more_rows_are_decoded_at_once_than_asked_for_however_tasks_are_mixed(first: str) -> None:
    """A folder's first task decided, and searches after a stream had five times as many."""
    model: Any = FakeModel(spec())
    qualities = (first, "best", "stream", "best", "best", "best")
    tasks = [replace(task, options=check(quality=quality)) for task, quality in zip(TASKS, qualities, strict=True)]
    captioner = Captioner(model, batch_size=8)
    wishes = [PendingCaption(wish.image, task) for wish in WISHES for task in tasks]
    written = [*captioner.add(wishes), *captioner.finish()]
    assert {one.error for one in written} == {None}
    assert len(written) == len(wishes)
    assert 5 < model.largest_batch <= 8


def test_an_image_is_forgotten_once_it_is_captioned_or_given_up() -> None:
    """Its pixel values would stay until the end of the folder."""
    captioner, freed = Captioner(FakeModel(spec()), batch_size=2), list[bool]()  # type: ignore[arg-type]
    for number, end in enumerate((lambda: list(captioner.finish()), captioner.abort), start=1):
        wish = PendingCaption(LoadedImage("x.png", "x", prepared=PreparedImage(torch.zeros(1, 1), 1, 1)), TASKS[0])
        weakref.finalize(wish, freed.append, True)
        assert not list(captioner.add([wish]))
        del wish
        end()
        assert len(freed) == number


def test_beams_are_counted_as_rows() -> None:
    model: Any = FakeModel(spec())
    captioner = Captioner(model, batch_size=10)
    task = replace(TASKS[0], options=check(quality="best"))
    wishes = [PendingCaption(wish.image, task) for wish in WISHES]
    assert len([*captioner.add(wishes), *captioner.finish()]) == 6
    assert model.largest_batch == 10


def test_a_prompt_is_composed_once_and_all_processors_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    used = list[int]()
    monkeypatch.setattr(threads, "use_threads", used.append)

    class Counting(FakeModel):
        texts = 0

        def encode(self, text: str) -> list[int]:
            self.texts += 1
            return super().encode(text)

    model: Any = Counting(spec())
    captioner = Captioner(model, batch_size=2)
    assert len([*captioner.add([PendingCaption(wish.image, TASKS[0]) for wish in WISHES]), *captioner.finish()]) == 6
    assert (used, model.texts) == ([threads.ALL_THREADS], 1)


def test_the_seconds_of_all_captions_are_those_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(100)
    monkeypatch.setattr(folder_captioner, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    captioner = Captioner(FakeModel(spec()), batch_size=4)  # type: ignore[arg-type]
    written = [*captioner.add(WISHES), *captioner.finish()]
    assert sum(one.seconds for one in written) == pytest.approx(next(ticks) - 102)  # a last step removes rows


def test_the_batch_is_filled_anew_when_half_of_it_is_free_and_read_at_once() -> None:
    """Nobody watches, so fewer and larger passes are better."""
    for count, batch_size, passes in ((8, 4, 3), (60, 60, 1)):
        model: Any = FakeModel(spec())
        wishes = [
            PendingCaption(LoadedImage(f"{number}.png", str(number), prepared=SMALL), replace(TASKS[0], prompt=words))
            for number, words in enumerate(f"What is {'very ' * number}long?" for number in range(count))
        ]
        captioner = Captioner(model, batch_size=batch_size)
        assert len([*captioner.add(wishes), *captioner.finish()]) == count
        assert model.encoder_batches == passes


def test_a_question_is_asked_as_everywhere_else() -> None:
    captioner = Captioner(FakeModel(spec()), batch_size=2)  # type: ignore[arg-type]
    best = replace(TASKS[0], options=check(quality="best"))
    assert captioner._request(PendingCaption(WISHES[0].image, best)).options.length_penalty == ANSWER_LENGTH_PENALTY
    (written,) = captioner.add([PendingCaption(WISHES[0].image, replace(TASKS[0], language="fr"))])
    assert "fake does not support French" in (written.error or "")


def test_work_begins_once_enough_wait_to_fill_the_batch() -> None:
    model: Any = FakeModel(spec())
    captioner = Captioner(model, batch_size=4)
    for wish, encoded in zip(WISHES, (0, 0, 0, 4, 4, 4), strict=True):
        list(captioner.add([wish]))
        assert model.encoded_images == encoded


@pytest.mark.parametrize(("parameters", "rows"), [(SMALL_PARAMETERS - 1, 64), (SMALL_PARAMETERS, 16)])
def test_as_many_are_decoded_at_once_as_pay(parameters: int, rows: int) -> None:
    model: Any = FakeModel(spec(parameters=parameters))
    captioner = Captioner(model, batch_size=None)
    every = [GenerationOptions(quality="stream", num_beams=4), GenerationOptions(quality="best", num_beams=4)]
    configs = [captioner._new_core(options).config for options in every]
    assert [(config.max_rows, config.max_waiting) for config in configs] == [(rows, rows), (rows, rows // 4)]


def test_a_caption_that_was_cut_off_in_a_loop_is_told() -> None:
    told = [
        folder_captioner._written(WISHES[0], Output(1, "a a a", 3, True, repeats=repeats), 1.0)
        for repeats in (True, False)
    ]
    assert [(one.caption, one.tokens, one.repeats) for one in told] == [("a a a", 3, True), ("a a a", 3, False)]


def test_a_prompt_is_composed_for_each_image_where_its_size_decides() -> None:
    model: Any = SizedModel()
    captioner = Captioner(model, batch_size=2)
    task = replace(TASKS[0], options=GenerationOptions(num_beams=3))
    seen = [LoadedImage("x.png", "x", prepared=PreparedImage(torch.zeros(1, 1), *size)) for size in ((3, 2), (5, 4))]
    requests = [captioner._request(PendingCaption(one, task)) for one in seen]
    assert model.infos == [ImageInfo("", 3, 2), ImageInfo("", 5, 4)]
    assert {image.key for request in requests for image in request.prompt.images} == {"x 3"}
