"""The upload job with a fake model: chats have priority, duplicates are captioned once, nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from blip_space import images
from blip_space.engine.request import Request
from blip_space.errors import ImageError, ModelError, PromptError, UserError
from blip_space.jobs import upload_job
from blip_space.jobs.records import CaptionTask
from blip_space.jobs.upload_job import UploadedImage, UploadJob
from blip_space.options import GenerationOptions
from blip_space.serving.protocol import EngineProtocol, EngineStatus
from blip_space.serving.response import ResponseStream
from tests.example_images import blue_circles
from tests.serving.conftest import Build
from tests.serving.fakes import FakeLoader, wait_until

CHAT = Request(images.decode(blue_circles()), "Who is it?")
BEST = GenerationOptions(quality="best")
ANSWER = "Question: What is it? Short answer in English:"
IMAGES = [blue_circles(count) for count in range(1, 21)]


def task(prompt: str = "What is it?", **changes: str) -> CaptionTask:
    fields = {"model": "", "precision": "", "language": "en", "prompt": prompt, **changes}
    return CaptionTask(**fields, options=GenerationOptions())


def uploads_of(*data: bytes) -> list[UploadedImage]:
    return [UploadedImage(f"{number}.png", lambda data=data: data) for number, data in enumerate(data)]  # type: ignore[misc]


def unreadable() -> bytes:
    raise ImageError("It cannot be read. Send another.")


@contextmanager
def running(job: UploadJob) -> Iterator[threading.Thread]:
    """Run the job in a thread until the end of the block."""
    thread = threading.Thread(target=lambda: list(job.run()))
    thread.start()
    yield thread
    job.cancel()
    thread.join()


def run_job(engine: EngineProtocol, *uploads: UploadedImage, **changes: str) -> UploadJob:
    job = UploadJob(engine, uploads, task(**changes))
    for _ in job.run():
        pass
    return job


def test_each_image_has_a_record_in_the_order_of_the_images(build: Build) -> None:
    job = run_job(build(), *uploads_of(*IMAGES))
    assert [record.file for record in job.records] == [f"{number}.png" for number in range(20)]
    first = job.records[0]
    assert (first.caption, first.error, first.language, first.prompt) == (ANSWER, None, "en", "What is it?")
    assert (first.model, first.precision, first.tokens) == ("fake", "fp32", 8)
    assert first.digest == images.digest(IMAGES[0])
    assert (job.progress.done, job.progress.total, job.progress.seconds_left) == (20, 20, 0)


def test_duplicate_images_are_captioned_once(build: Build, loading: FakeLoader) -> None:
    job = run_job(build(), *uploads_of(*IMAGES[:2], IMAGES[0], IMAGES[0]))
    assert [record.caption for record in job.records] == [ANSWER] * 4
    assert [record.seconds > 0 for record in job.records] == [True, True, False, False]
    assert (job.progress.generated, job.progress.copied, len(loading.models[0].generated_words)) == (2, 2, 2 * 9)


def test_the_error_of_a_file_is_not_that_of_another_of_its_name(build: Build) -> None:
    """From two folders that were dropped together."""
    job = run_job(build(), UploadedImage("a.png", unreadable), UploadedImage("a.png", lambda: IMAGES[0]))
    assert [record.caption for record in job.records] == [None, ANSWER]
    assert [failure is None for failure in job.failures] == [False, True]


def test_an_image_that_fails_has_a_record_with_a_message(build: Build) -> None:
    broken = uploads_of(b"no image", IMAGES[0], b"no image")
    engine = build()
    job = run_job(engine, UploadedImage("gone.png", unreadable), *broken)
    assert [record.caption for record in job.records] == [None, None, ANSWER, None]
    assert job.records[0].error == "It cannot be read. Send another."
    assert "The file is not an image" in str(job.records[1].error)
    assert job.records[3].error == job.records[1].error
    assert [name for name, _ in job.progress.errors] == ["gone.png", "0.png", "2.png"]
    assert [str(failure) if failure else None for failure in job.failures] == [one.error for one in job.records]
    failed = run_job(engine, *uploads_of(IMAGES[0]), prompt="Will this explode?")
    assert "internal error" in str(failed.records[0].error)


def test_an_unexpected_error_of_an_image_fails_it_alone(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job ended, and its captions were lost."""
    engine, prepared = build(), list[images.SafeImage]()

    def pixels(image: Any, options: GenerationOptions) -> torch.Tensor:  # noqa: ARG001
        prepared.append(image)
        if len(prepared) == 2:
            raise RuntimeError("a bug")
        return torch.zeros(1, 1)

    monkeypatch.setattr(loading.prepare(engine.default), "pixels", pixels)
    job = run_job(engine, *uploads_of(*IMAGES[:3]))
    assert [record.caption for record in job.records] == [ANSWER, None, ANSWER]
    assert "internal error" in str(job.records[1].error)


def test_a_rejected_prompt_ends_the_job(build: Build) -> None:
    engine = build()
    with pytest.raises(PromptError, match=r"it has 60\d tokens"):
        run_job(engine, *uploads_of(*IMAGES), prompt="word " * 600 + "?")
    with pytest.raises(UserError, match="does not support French"):
        run_job(engine, *uploads_of(*IMAGES), language="fr")
    with pytest.raises(ModelError, match="no model 'other'"):
        run_job(engine, *uploads_of(*IMAGES), model="other")


def test_a_chat_is_answered_before_an_earlier_upload_job(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1)
    job = UploadJob(engine, uploads_of(*IMAGES), task())
    with running(job) as thread:
        wait_until(lambda: engine.status().running == 1)
        response = engine.submit(CHAT)
        assert response.queue_position() == 0
        loading.gate.release(1 + 9)  # one token of the job, and the eight of the chat with their stop
        assert list(response.updates())[-1].startswith("Question: Who")
        assert job.records == []
        loading.gate.release(1_000)
        thread.join()
    assert [record.caption for record in job.records] == [ANSWER] * 20


def test_a_beam_search_of_a_chat_preempts_one_of_the_job(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_beam_groups=1)
    job = UploadJob(engine, uploads_of(*IMAGES[:12]), CaptionTask("", "", "en", "What is it?", BEST))
    with running(job) as thread:
        wait_until(lambda: engine.status().running > 0)
        response = engine.submit(Request(CHAT.image, CHAT.prompt, options=BEST))
        wait_until(lambda: bool(loading.gate and loading.gate.release()) or response.done)
        assert list(response)[-1].startswith("Question: Who")
        assert job.records == []
        loading.gate.release(10_000)
        thread.join()
    assert job.progress.generated == 12


def test_an_upload_job_does_not_fill_the_queue_for_chats(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1, max_waiting=1)
    with running(UploadJob(engine, uploads_of(*IMAGES), task())):
        wait_until(lambda: engine.status().running == 1)
        assert engine.status().waiting == 0
        response = engine.submit(CHAT)
        loading.gate.release(1_000)
        assert list(response.updates())


def test_cancelling_keeps_finished_records_and_frees_the_sequences(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=2)
    job = UploadJob(engine, uploads_of(*IMAGES), task())
    with running(job) as thread:
        loading.gate.release(9 * 3)
        wait_until(lambda: len(job.records) == 3)
        job.cancel()
        thread.join()
    loading.gate.release(100)
    wait_until(lambda: engine.status().running == 0)
    assert [record.caption for record in job.records] == [ANSWER] * 3
    assert (job.progress.cancelled, job.progress.done) == (True, 3)


def test_closing_the_generator_frees_the_sequences(build: Build, loading: FakeLoader) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build()
    steps = UploadJob(engine, uploads_of(*IMAGES), task()).run()
    next(steps)
    wait_until(lambda: engine.status().running > 0)
    steps.close()
    loading.gate.release(100)
    wait_until(lambda: engine.status().running == 0)
    assert len(loading.models[0].generated_words) <= 3 * upload_job.CPU_IN_FLIGHT


class OnGpu:
    """An engine that says that its model is on a GPU."""

    def __init__(self, engine: Any, rows: int) -> None:
        self.engine, self.rows = engine, rows
        self.threads = set[str]()

    def status(self) -> EngineStatus:
        status: EngineStatus = self.engine.status()
        return replace(status, device="cuda:0", rows=self.rows)

    def submit(self, request: Request) -> ResponseStream:
        self.threads.add(threading.current_thread().name)
        response: ResponseStream = self.engine.submit(request)
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@pytest.mark.parametrize(("rows", "in_flight"), [(18, 18), (2, 12)])
def test_on_a_gpu_as_many_are_in_flight_as_it_has_rows_and_threads_decode_them(
    build: Build, loading: FakeLoader, rows: int, in_flight: int
) -> None:
    loading.gate = threading.Semaphore(0)
    engine: Any = OnGpu(build(), rows)
    job = UploadJob(engine, uploads_of(*IMAGES), task())
    with running(job) as thread:
        wait_until(lambda: engine.status().running + engine.engine._driver.waiting(background=True) == in_flight)
        loading.gate.release(1_000)
        thread.join()
    assert [record.caption for record in job.records] == [ANSWER] * 20
    assert [record.file for record in job.records] == [f"{number}.png" for number in range(20)]
    assert all(name.startswith("uploads") for name in engine.threads)


def test_a_request_that_is_submitted_while_the_job_is_cancelled_is_cancelled(build: Build) -> None:
    engine: Any = OnGpu(build(), 12)
    submitting, release, responses = threading.Event(), threading.Event(), list[ResponseStream]()
    submit = engine.submit

    def submit_later(request: Request) -> ResponseStream:
        submitting.set()
        release.wait()
        responses.append(submit(request))
        return responses[-1]

    engine.submit = submit_later
    steps = UploadJob(engine, uploads_of(IMAGES[0]), task()).run()
    next(steps)
    submitting.wait()
    steps.close()
    release.set()
    wait_until(lambda: bool(responses) and responses[0].done)


def test_images_after_the_timeout_have_a_record_with_an_error(
    build: Build, loading: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.gate = threading.Semaphore(0)
    monkeypatch.setattr(upload_job, "MAX_SECONDS", 0.0)
    job = run_job(build(), *uploads_of(*IMAGES))
    assert [record.error for record in job.records] == [upload_job.TIMED_OUT] * 20
    assert job.progress.done == 20
