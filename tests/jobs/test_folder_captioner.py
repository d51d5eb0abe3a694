"""Many captions at once, with a fake model."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from blip_space.engine import batch_size as sizes
from blip_space.engine.output import Output
from blip_space.engine.request import PreparedImage
from blip_space.jobs import folder_captioner
from blip_space.jobs.folder_captioner import CAPTION_FAILED, Caption, PendingCaption
from blip_space.jobs.image_reader import LoadedImage
from blip_space.jobs.records import CaptionTask
from blip_space.loading.precision import SMALL_PARAMETERS
from blip_space.models import threads
from blip_space.models.preparation import ImageInfo
from blip_space.options import ANSWER_LENGTH_PENALTY, GenerationOptions, check
from tests.engine.fake_model import FakeModel, SizedModel, spec


class Captioner(folder_captioner.Captioner):
    """Yields one caption after another."""

    def add(self, pending_captions: Sequence[PendingCaption]) -> Iterator[Caption]:  # type: ignore[override]
        return itertools.chain.from_iterable(super().add(pending_captions))

    def finish(self) -> Iterator[Caption]:  # type: ignore[override]
        return itertools.chain.from_iterable(super().finish())


SMALL = PreparedImage(torch.zeros(1, 1), 1, 1)
TASKS = [CaptionTask("fake", "fp32", "en", f"What is {number}?", GenerationOptions()) for number in range(6)]
PENDING = [
    PendingCaption(
        LoadedImage(f"{number}.png", str(number), prepared=PreparedImage(torch.full((1, 1), number), 1, 1)), task
    )
    for number, task in enumerate(TASKS)
]


@pytest.mark.timeout(60)
def test_captions_that_were_running_out_of_memory_are_generated_again() -> None:
    """A sequence that is lost with its batch would be a caption without a record."""
    model: Any = FakeModel(spec())
    model.memory_rows = 2
    captioner = Captioner(model, batch_size=4)
    captions = [*captioner.add(PENDING), *captioner.finish()]
    assert {caption.pending.image.file: caption.caption for caption in captions} == {
        f"{number}.png": f"Question: What is {number}? Short answer in English:" for number in range(6)
    }
    assert model.largest_batch == 4


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_an_image_that_the_model_cannot_encode_fails_alone(quality: str) -> None:
    """All images that were encoded with it failed as well."""

    class FailsOnOne(FakeModel):
        def encode_images(self, pixels: Sequence[Any]) -> list[torch.Tensor]:
            if any(int(part) == 3 for part in pixels):
                raise RuntimeError("a bug")
            return super().encode_images(pixels)

    model: Any = FailsOnOne(spec())
    tasks = [replace(task, options=check(quality=quality)) for task in TASKS]
    captioner = Captioner(model, batch_size=20)
    pending_captions = [PendingCaption(pending.image, task) for pending, task in zip(PENDING, tasks, strict=True)]
    captions = [*captioner.add(pending_captions), *captioner.finish()]
    assert sorted(caption.pending.image.file for caption in captions) == [f"{number}.png" for number in range(6)]
    assert [(caption.pending.image.file, caption.error) for caption in captions if caption.error] == [
        ("3.png", CAPTION_FAILED)
    ]


def test_aborted_captions_do_not_come_with_the_next_ones() -> None:
    """A worker of a cluster answered its next call with the captions of the last one."""
    model: Any = FakeModel(spec())
    captioner = Captioner(model, batch_size=2)
    assert not list(captioner.add(PENDING[:1]))
    captioner.abort()
    assert [caption.pending.image.file for caption in [*captioner.add(PENDING[1:2]), *captioner.finish()]] == ["1.png"]


def test_a_task_that_is_rejected_fails_its_images_and_no_others() -> None:
    long = replace(TASKS[0], prompt="word " * 600 + "?")
    captioner = Captioner(FakeModel(spec()), batch_size=2)  # type: ignore[arg-type]
    pending_captions = [PendingCaption(PENDING[0].image, long), *PENDING[1:3]]
    captions = {
        caption.pending.image.file: caption for caption in [*captioner.add(pending_captions), *captioner.finish()]
    }
    assert "The question is too long" in (captions["0.png"].error or "")
    assert [captions[f"{number}.png"].error for number in (1, 2)] == [None, None]


@pytest.mark.parametrize("first", ["stream", "best"])
def test_no_more_sequences_are_decoded_at_once_than_the_batch_size_whatever_the_tasks(first: str) -> None:
    """The first task decided, and beam searches after streams had five times as many."""
    model: Any = FakeModel(spec())
    qualities = (first, "best", "stream", "best", "best", "best")
    tasks = [replace(task, options=check(quality=quality)) for task, quality in zip(TASKS, qualities, strict=True)]
    captioner = Captioner(model, batch_size=8)
    pending_captions = [PendingCaption(pending.image, task) for pending in PENDING for task in tasks]
    captions = [*captioner.add(pending_captions), *captioner.finish()]
    assert {caption.error for caption in captions} == {None}
    assert len(captions) == len(pending_captions)
    assert 5 < model.largest_batch <= 8


def test_an_image_is_freed_once_it_is_captioned_or_aborted() -> None:
    """Its pixel values stayed until the end of the job."""
    captioner, freed = Captioner(FakeModel(spec()), batch_size=2), list[bool]()  # type: ignore[arg-type]
    for number, end in enumerate((lambda: list(captioner.finish()), captioner.abort), start=1):
        pending = PendingCaption(LoadedImage("x.png", "x", prepared=PreparedImage(torch.zeros(1, 1), 1, 1)), TASKS[0])
        weakref.finalize(pending, freed.append, True)
        assert not list(captioner.add([pending]))
        del pending
        end()
        assert len(freed) == number


def test_beams_count_as_sequences() -> None:
    model: Any = FakeModel(spec())
    captioner = Captioner(model, batch_size=10)
    task = replace(TASKS[0], options=check(quality="best"))
    pending_captions = [PendingCaption(pending.image, task) for pending in PENDING]
    assert len([*captioner.add(pending_captions), *captioner.finish()]) == 6
    assert model.largest_batch == 10


def test_a_prompt_is_composed_once_and_all_threads_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    used = list[int]()
    monkeypatch.setattr(threads, "use_threads", used.append)

    class Counting(FakeModel):
        texts = 0

        def encode(self, text: str) -> list[int]:
            self.texts += 1
            return super().encode(text)

    model: Any = Counting(spec())
    captioner = Captioner(model, batch_size=2)
    assert (
        len([*captioner.add([PendingCaption(pending.image, TASKS[0]) for pending in PENDING]), *captioner.finish()])
        == 6
    )
    assert (used, model.texts) == ([threads.ALL_THREADS], 1)


def test_the_seconds_of_all_captions_add_up_to_the_elapsed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(100)
    monkeypatch.setattr(folder_captioner, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    captioner = Captioner(FakeModel(spec()), batch_size=4)  # type: ignore[arg-type]
    captions = [*captioner.add(PENDING), *captioner.finish()]
    assert sum(caption.seconds for caption in captions) == pytest.approx(
        next(ticks) - 102
    )  # the last step removes sequences


def test_the_batch_is_refilled_when_half_of_it_is_free_in_one_prefill() -> None:
    """Nothing is streamed, so fewer and larger forward passes are better."""
    for count, batch_size, passes in ((8, 4, 3), (60, 60, 1)):
        model: Any = FakeModel(spec())
        pending_captions = [
            PendingCaption(LoadedImage(f"{number}.png", str(number), prepared=SMALL), replace(TASKS[0], prompt=words))
            for number, words in enumerate(f"What is {'very ' * number}long?" for number in range(count))
        ]
        captioner = Captioner(model, batch_size=batch_size)
        assert len([*captioner.add(pending_captions), *captioner.finish()]) == count
        assert model.encoder_batches == passes


def test_options_and_languages_are_treated_as_everywhere_else() -> None:
    captioner = Captioner(FakeModel(spec()), batch_size=2)  # type: ignore[arg-type]
    best = replace(TASKS[0], options=check(quality="best"))
    assert captioner._request(PendingCaption(PENDING[0].image, best)).options.length_penalty == ANSWER_LENGTH_PENALTY
    (caption,) = captioner.add([PendingCaption(PENDING[0].image, replace(TASKS[0], language="fr"))])
    assert "fake does not support French" in (caption.error or "")


def test_decoding_begins_once_enough_are_queued_to_fill_the_batch() -> None:
    model: Any = FakeModel(spec())
    captioner = Captioner(model, batch_size=4)
    for pending, encoded in zip(PENDING, (0, 0, 0, 4, 4, 4), strict=True):
        list(captioner.add([pending]))
        assert model.encoded_images == encoded


@pytest.mark.parametrize(("parameters", "rows"), [(SMALL_PARAMETERS - 1, 64), (SMALL_PARAMETERS, 16)])
def test_the_default_batch_size_depends_on_the_size_of_the_model(parameters: int, rows: int) -> None:
    model: Any = FakeModel(spec(parameters=parameters))
    captioner = Captioner(model, batch_size=None)
    both = [GenerationOptions(quality="stream", num_beams=4), GenerationOptions(quality="best", num_beams=4)]
    first = [
        captioner._request(PendingCaption(PENDING[0].image, replace(TASKS[0], options=options))) for options in both
    ]
    configs = [captioner._new_core(request).config for request in first]
    assert [(config.max_rows, config.max_waiting) for config in configs] == [(rows, rows), (rows, rows // 4)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model counts as one on a GPU with memory for eight full context windows."""
    monkeypatch.setattr(sizes, "is_on_gpu", lambda _: True)
    monkeypatch.setattr(sizes, "kv_positions", lambda model: 8 * model.spec.context_tokens)


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_the_first_prompt_decides_how_many_rows_fit() -> None:
    """The context window decided: a caption takes a tenth of it."""
    captioner = Captioner(FakeModel(spec()), batch_size=None)  # type: ignore[arg-type]
    task = replace(TASKS[0], options=GenerationOptions(max_new_tokens=200))
    short, long = (captioner._request(PendingCaption(PENDING[0].image, one)) for one in (TASKS[0], task))
    rows = [captioner._new_core(request).config.max_rows for request in (short, long)]
    assert (rows, captioner.batch_size) == ([32, 16], 16)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_prefills_what_is_there_until_its_batch_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited until a whole batch of images was loaded."""
    monkeypatch.setattr(folder_captioner, "GPU_WAITING", 2)
    model: Any = FakeModel(spec())
    captioner = Captioner(model, batch_size=4)
    captions = list[Any]()
    for pending, encoded in zip(PENDING[:4], (0, 2, 2, 4), strict=True):
        captions += captioner.add([pending])
        assert model.encoded_images == encoded
    assert len(model.generated_words) == 4  # of the prefills
    captions += [*captioner.add(PENDING[4:]), *captioner.finish()]
    assert sorted(caption.pending.image.file for caption in captions) == [f"{number}.png" for number in range(6)]
    assert {caption.error for caption in captions} == {None}


@pytest.mark.parametrize("is_on_gpu", [True, False])
def test_only_a_gpu_works_while_an_image_is_loaded(monkeypatch: pytest.MonkeyPatch, is_on_gpu: bool) -> None:
    monkeypatch.setattr(sizes, "is_on_gpu", lambda _: is_on_gpu)
    captioner = Captioner(FakeModel(spec()), batch_size=4)  # type: ignore[arg-type]
    assert not captioner.works_while_waiting
    list(captioner.add(PENDING[:1]))
    assert captioner.works_while_waiting == is_on_gpu
    assert len(list(captioner.finish())) == 1
    assert not captioner.works_while_waiting


def test_a_caption_that_was_cut_off_in_a_loop_is_marked() -> None:
    captions = [
        folder_captioner._to_caption(PENDING[0], Output(1, "a a a", 3, True, repeats=repeats), 1.0)
        for repeats in (True, False)
    ]
    assert [(caption.caption, caption.tokens, caption.repeats) for caption in captions] == [
        ("a a a", 3, True),
        ("a a a", 3, False),
    ]


def test_a_prompt_is_composed_for_each_image_if_it_depends_on_its_size() -> None:
    model: Any = SizedModel()
    captioner = Captioner(model, batch_size=2)
    task = replace(TASKS[0], options=GenerationOptions(num_beams=3))
    images = [LoadedImage("x.png", "x", prepared=PreparedImage(torch.zeros(1, 1), *size)) for size in ((3, 2), (5, 4))]
    requests = [captioner._request(PendingCaption(image, task)) for image in images]
    assert model.infos == [ImageInfo("", 3, 2), ImageInfo("", 5, 4)]
    assert {image.key for request in requests for image in request.prompt.images} == {"x 3"}
