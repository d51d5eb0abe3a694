"""The upload job captions a user's images by background requests, which a serving engine runs after those of chats.

Keeps only a few requests in flight, so that neither the queue nor the memory fills. An image is given as a name and a
callable that reads its bytes. Must not import apps.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice

from blip_space.engine.output import ANSWER_FAILED
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import BusyError, PromptError, UserError
from blip_space.images.uploaded import UploadedImageFile
from blip_space.jobs.image_reader import default_workers
from blip_space.jobs.job_progress import JobProgress
from blip_space.jobs.records import CaptionRecord, CaptionTask
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.response import ResponseStream

log = logging.getLogger(__name__)

CPU_IN_FLIGHT = 12
"""The most submitted requests on a processor; on a GPU as many as it has rows. The engine runs fewer background
requests by default, so one is always waiting."""

HEARTBEAT_SECONDS = 0.25
MAX_SECONDS = EngineConfig.background_timeout_seconds
TIMED_OUT = f"The batch took longer than {MAX_SECONDS / 60:.0f} minutes and was stopped. Send this image again."


@dataclass(frozen=True)
class UploadedImage:
    """An image that is read when needed: `file` is its name; `read` returns its bytes or raises `UserError`."""

    file: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class _Pending:
    """An image without a record so far. It has a future response or an error; a duplicate of an earlier image has
    neither."""

    file: str
    digest: str | None = None
    submitted: Future[ResponseStream] | None = None
    error: UserError | None = None
    submitted_at: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float) -> bool:
        """Wait at most so long, first for the request to be submitted and then for news of the answer. Returns whether
        there are any, or there is nothing to wait for."""
        if self.submitted is None:
            return True
        if not wait([self.submitted], seconds).done:
            return False
        return self.submitted.exception() is not None or self.submitted.result().wait(seconds)

    def cancel(self) -> None:
        """Cancel the request, also if it is being submitted."""
        if self.submitted is not None and not self.submitted.cancel():
            self.submitted.add_done_callback(_cancel_response)


class UploadJob:
    """The job of one upload. `records` has the results so far, in the order of the images."""

    def __init__(self, engine: EngineProtocol, images: Sequence[UploadedImage], task: CaptionTask) -> None:
        """`UserError` if the engine lacks the task's model or language. Records name the engine's precision."""
        self._task = replace(task, model=engine.resolve_model(task.model, task.language).name)
        self.progress = JobProgress(len(images))
        self.records: list[CaptionRecord] = []
        self.failures: list[UserError | None] = []
        """The error of each record, for translations."""

        self._engine = engine
        self._remaining = iter(images)
        self._in_flight: deque[_Pending] = deque()
        self._digests: set[str] = set()
        self._first_by_digest: dict[str, tuple[CaptionRecord, UserError | None]] = {}
        """The record of the first image with each digest, and its error."""

        self._pool = ThreadPoolExecutor(default_workers(), thread_name_prefix="uploads")
        self._deadline = time.monotonic() + MAX_SECONDS

    def cancel(self) -> None:
        """Make `run` stop at its next step. The records so far stay. May be called from any thread."""
        self.progress.cancelled = True

    def run(self) -> Generator[None, None, None]:
        """Caption the images, and yield after each image and every `HEARTBEAT_SECONDS`. Closing the generator cancels
        the requests. `PromptError` if the prompt is rejected, since it would be for every image."""
        try:
            while not self.progress.cancelled and self._fill():
                if time.monotonic() > self._deadline:
                    self._time_out()
                elif self._in_flight[0].wait(HEARTBEAT_SECONDS):
                    self._add_record(self._in_flight.popleft())
                yield
        finally:
            self._abort()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _fill(self) -> bool:
        """Submit images up to the limit in flight. Returns whether any image is in flight."""
        status = self._engine.status()
        is_on_gpu = status.device.startswith("cuda")
        limit = max(CPU_IN_FLIGHT, status.rows) if is_on_gpu else CPU_IN_FLIGHT
        for upload in islice(self._remaining, limit - len(self._in_flight)):
            self._in_flight.append(self._submit(upload, in_threads=is_on_gpu))
        return bool(self._in_flight)

    def _submit(self, upload: UploadedImage, *, in_threads: bool) -> _Pending:
        """Read an image and submit its request, or have a thread do that, which decodes the image: a GPU takes them
        faster than one thread decodes them, and a processor has nothing to spare."""
        digest = None
        try:
            image = UploadedImageFile(upload.read())
            digest = image.digest
            if digest in self._digests:
                return _Pending(upload.file, digest)
            self._digests.add(digest)
            task = self._task
            request = Request(image, task.prompt, task.language, (), task.model, task.options, background=True)
            submitted = self._pool.submit(self._engine.submit, request)
            if not in_threads:
                wait([submitted])
            return _Pending(upload.file, digest, submitted)
        except UserError as error:
            return _Pending(upload.file, digest, error=error)
        except Exception as error:
            return _Pending(upload.file, digest, error=_as_user_error(error))

    def _add_record(self, pending: _Pending) -> None:
        if pending.submitted is None and pending.error is None:
            first, failure = self._first_by_digest[pending.digest or ""]
            record = replace(first, file=pending.file, seconds=0.0)
            self.progress.copied += record.error is None
        else:
            record, failure = self._record(pending)
            self._first_by_digest[pending.digest or ""] = record, failure
            self.progress.generated += record.error is None
        self.records.append(record)
        self.failures.append(failure)
        if record.error is not None:
            self.progress.errors.append((record.file, record.error))

    def _record(self, pending: _Pending) -> tuple[CaptionRecord, UserError | None]:
        """Wait for an image's answer, and return the record with its caption or error, and this error. `PromptError` as
        in `run`."""
        try:
            if pending.error:
                raise pending.error
            assert pending.submitted is not None
            response = pending.submitted.result()
            *_, caption = response.updates()
        except PromptError:
            raise
        except Exception as error:
            failure = _without_traceback(_as_user_error(error))
            return self._task.record(pending.file, pending.digest, error=str(failure)), failure
        status = self._engine.status()
        if status.model == self._task.model:
            self._task = replace(self._task, precision=status.precision)
        record = self._task.record(
            pending.file,
            pending.digest,
            caption=caption,
            tokens=response.tokens,
            seconds=time.monotonic() - pending.submitted_at,
            repeats=response.repeats,
        )
        return record, None

    def _time_out(self) -> None:
        """Cancel the requests, and add a record with a timeout error for every image that has none."""
        unfinished = [*self._in_flight, *(_Pending(upload.file) for upload in self._remaining)]
        self._abort()
        for pending in unfinished:
            self._add_record(
                _Pending(pending.file, pending.digest, error=BusyError(TIMED_OUT, code="timed_out", detail="batch"))
            )

    def _abort(self) -> None:
        """Cancel all requests in flight."""
        for pending in self._in_flight:
            pending.cancel()
        self._in_flight.clear()


def _cancel_response(submitted: Future[ResponseStream]) -> None:
    if submitted.exception() is None:
        submitted.result().cancel()


def _without_traceback(error: UserError) -> UserError:
    """The same error without the frames that raised it, which keep the image."""
    return UserError(str(error), code=error.code, detail=error.detail, values=error.values)


def _as_user_error(error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    log.error("an image was not prepared for the model", exc_info=error)
    return UserError(ANSWER_FAILED, code="internal_error")
