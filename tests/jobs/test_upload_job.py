"""Laws of a batch in front of an engine with a model of words: visitors first, equal pictures once, nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from blip_space import images
from blip_space.engine.request import Request
from blip_space.errors import ImageError, ModelError, PromptError, UserError
from blip_space.jobs import upload_job as room
from blip_space.jobs.records import CaptionTask
from blip_space.jobs.upload_job import UploadedImage, UploadJob
from blip_space.options import GenerationOptions
from blip_space.serving.protocol import EngineProtocol
from tests.example_images import blue_circles
from tests.serving.conftest import Build
from tests.serving.fakes import FakeLoader, wait_until

VISITOR = Request(images.decode(blue_circles()), "Who is it?")
BEST = GenerationOptions(quality="best")
ANSWER = "Question: What is it? Short answer in English:"
DRAWN = [blue_circles(count) for count in range(1, 21)]


def task(prompt: str = "What is it?", **changes: str) -> CaptionTask:
    given = {"model": "", "precision": "", "language": "en", "prompt": prompt, **changes}
    return CaptionTask(**given, options=GenerationOptions())


def pictures(*data: bytes) -> list[UploadedImage]:
    return [UploadedImage(f"{number}.png", lambda data=data: data) for number, data in enumerate(data)]  # type: ignore[misc]


def unreadable() -> bytes:
    raise ImageError("It cannot be read. Send another.")


@contextmanager
def at_work(batch: UploadJob) -> Iterator[threading.Thread]:
    """The batch in a thread of its own, ended with the test."""
    thread = threading.Thread(target=lambda: list(batch.run()))
    thread.start()
    yield thread
    batch.cancel()
    thread.join()


def done(engine: EngineProtocol, *given: UploadedImage, **changes: str) -> UploadJob:
    batch = UploadJob(engine, given, task(**changes))
    for _ in batch.run():
        pass
    return batch


def test_each_picture_has_its_record_in_the_order_of_the_pictures(build: Build) -> None:
    batch = done(build(), *pictures(*DRAWN))
    assert [record.file for record in batch.records] == [f"{number}.png" for number in range(20)]
    first = batch.records[0]
    assert (first.caption, first.error, first.language, first.prompt) == (ANSWER, None, "en", "What is it?")
    assert (first.model, first.precision, first.tokens) == ("fake", "fp32", 8)
    assert first.digest == images.digest(DRAWN[0])
    assert (batch.progress.done, batch.progress.total, batch.progress.seconds_left) == (20, 20, 0)


def test_equal_pictures_are_answered_once(build: Build, loading: FakeLoader) -> None:
    batch = done(build(), *pictures(*DRAWN[:2], DRAWN[0], DRAWN[0]))
    assert [record.caption for record in batch.records] == [ANSWER] * 4
    assert [record.seconds > 0 for record in batch.records] == [True, True, False, False]
    assert (batch.progress.generated, batch.progress.copied, len(loading.models[0].generated_words)) == (2, 2, 2 * 9)


def test_a_picture_that_cannot_be_read_or_answered_has_a_record_with_a_sentence(build: Build) -> None:
    broken = pictures(b"no picture", DRAWN[0], b"no picture")
    engine = build()
    batch = done(engine, UploadedImage("gone.png", unreadable), *broken)
    assert [record.caption for record in batch.records] == [None, None, ANSWER, None]
    assert batch.records[0].error == "It cannot be read. Send another."
    assert "not an image that can be read" in str(batch.records[1].error)
    assert batch.records[3].error == batch.records[1].error
    assert [name for name, _ in batch.progress.errors] == ["gone.png", "0.png", "2.png"]
    faulty = done(engine, *pictures(DRAWN[0]), prompt="Will this explode?")
    assert "internal error" in str(faulty.records[0].error)


def test_a_picture_that_nobody_foresaw_ends_alone(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L11: the whole batch ended, with the captions that were there."""
    engine, shown = build(), list[images.SafeImage]()

    def pixels(image: Any, options: GenerationOptions) -> torch.Tensor:  # noqa: ARG001
        shown.append(image)
        if len(shown) == 2:
            raise RuntimeError("a bug")
        return torch.zeros(1, 1)

    monkeypatch.setattr(loading.prepare(engine.default), "pixels", pixels)
    batch = done(engine, *pictures(*DRAWN[:3]))
    assert [record.caption for record in batch.records] == [ANSWER, None, ANSWER]
    assert "internal error" in str(batch.records[1].error)


def test_words_that_cannot_be_sent_end_the_batch_and_not_each_picture(build: Build) -> None:
    engine = build()
    with pytest.raises(PromptError, match=r"60\d tokens long"):
        done(engine, *pictures(*DRAWN), prompt="word " * 600 + "?")
    with pytest.raises(UserError, match="does not support French"):
        done(engine, *pictures(*DRAWN), language="fr")
    with pytest.raises(ModelError, match="no model 'other'"):
        done(engine, *pictures(*DRAWN), model="other")


def test_a_visitor_is_answered_before_a_batch_that_was_there_first(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1)
    batch = UploadJob(engine, pictures(*DRAWN), task())
    with at_work(batch) as thread:
        wait_until(lambda: engine.status().running == 1)
        answer = engine.submit(VISITOR)
        assert answer.queue_position() == 0
        loading.gate.release(1 + 9)  # a word of the batch, and the visitor's eight with their stop
        assert list(answer.updates())[-1].startswith("Question: Who")
        assert batch.records == []
        loading.gate.release(1_000)
        thread.join()
    assert [record.caption for record in batch.records] == [ANSWER] * 20


def test_a_visitors_search_takes_the_place_of_a_search_of_the_batch(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_beam_groups=1)
    batch = UploadJob(engine, pictures(*DRAWN[:12]), CaptionTask("", "", "en", "What is it?", BEST))
    with at_work(batch) as thread:
        wait_until(lambda: engine.status().running > 0)
        answer = engine.submit(Request(VISITOR.image, VISITOR.prompt, options=BEST))
        wait_until(lambda: bool(loading.gate and loading.gate.release()) or answer.done)
        assert list(answer)[-1].startswith("Question: Who")
        assert batch.records == []
        loading.gate.release(10_000)
        thread.join()
    assert batch.progress.generated == 12


def test_a_batch_does_not_fill_the_visitors_line(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1, max_waiting=1)
    with at_work(UploadJob(engine, pictures(*DRAWN), task())):
        wait_until(lambda: engine.status().running == 1)
        assert engine.status().waiting == 0
        answer = engine.submit(VISITOR)
        loading.gate.release(1_000)
        assert list(answer.updates())


def test_stopping_keeps_what_is_done_and_frees_the_rows(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=2)
    batch = UploadJob(engine, pictures(*DRAWN), task())
    with at_work(batch) as thread:
        loading.gate.release(9 * 3)
        wait_until(lambda: len(batch.records) == 3)
        batch.cancel()
        thread.join()
    loading.gate.release(100)
    wait_until(lambda: engine.status().running == 0)
    assert [record.caption for record in batch.records] == [ANSWER] * 3
    assert (batch.progress.cancelled, batch.progress.done) == (True, 3)


def test_closing_frees_the_rows(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build()
    steps = UploadJob(engine, pictures(*DRAWN), task()).run()
    next(steps)
    wait_until(lambda: engine.status().running > 0)
    steps.close()
    loading.gate.release(100)
    wait_until(lambda: engine.status().running == 0)
    assert len(loading.models[0].generated_words) <= 3 * room.MAX_IN_FLIGHT


def test_pictures_that_time_does_not_suffice_for_say_so(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.gate = threading.Semaphore(0)
    monkeypatch.setattr(room, "MAX_SECONDS", 0.0)
    batch = done(build(), *pictures(*DRAWN))
    assert [record.error for record in batch.records] == [room.TIMED_OUT] * 20
    assert batch.progress.done == 20
