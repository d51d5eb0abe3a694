"""A visitor's many pictures as guests of the engine: captioned beside the conversations, and never before them.

Keeps a few requests in the engine at a time, so neither its line nor the memory fills. Knows pictures by a name and a
way to their bytes, and what is asked of each; knows no page, and nothing of where the bytes come from.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

from blip_space.engine.output import ANSWER_FAILED
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import BusyError, PromptError, UserError
from blip_space.images import ImageFile
from blip_space.jobs.folder_job import JobProgress
from blip_space.jobs.records import CaptionRecord, CaptionTask
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.response import ResponseStream

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 12
"""More than the engine writes of guests at once by default, so that no place of theirs waits for a picture."""

HEARTBEAT_SECONDS = 0.25
MAX_SECONDS = EngineConfig.background_timeout_seconds
TIMED_OUT = f"The batch took longer than {MAX_SECONDS / 60:.0f} minutes and was ended. Send this picture again."


@dataclass(frozen=True)
class UploadedImage:
    """A picture that is still to be read. `read` gives its bytes, or raises the `UserError` that says why not."""

    file: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class _Guest:
    """A picture on its way: its answer, or why it has none. Neither, where an equal picture is before it."""

    file: str
    digest: str | None = None
    answer: ResponseStream | None = None
    error: UserError | None = None
    since: float = field(default_factory=time.monotonic)

    def caption(self) -> str:
        """The whole answer; raises the `UserError` that there is instead."""
        if self.error:
            raise self.error
        assert self.answer is not None
        *_, text = self.answer.updates()
        return text


class UploadJob:
    """One batch: what is to be captioned, and what came of it so far, in the order of the pictures."""

    def __init__(self, engine: EngineProtocol, pictures: Sequence[UploadedImage], task: CaptionTask) -> None:
        """The task's precision is what the engine says when a caption is there. `UserError` for a task that it cannot
        do at all."""
        self._task = replace(task, model=engine.resolve_model(task.model, task.language).name)
        self.progress = JobProgress(len(pictures))
        self.records: list[CaptionRecord] = []
        self._engine = engine
        self._rest = iter(pictures)
        self._line: deque[_Guest] = deque()
        self._begun: set[str] = set()
        self._first: dict[str, CaptionRecord] = {}
        """What came of each digest."""

        self._deadline = time.monotonic() + MAX_SECONDS

    def cancel(self) -> None:
        """End soon; what is done stays. From any thread."""
        self.progress.cancelled = True

    def run(self) -> Generator[None, None, None]:
        """Do it; comes back after each picture and after each heartbeat. Closing the generator frees the rows.

        `UserError` where the words cannot be sent, since they are the same for every picture.
        """
        try:
            while not self.progress.cancelled and self._fill():
                if time.monotonic() > self._deadline:
                    self._end_late()
                elif self._line[0].answer is None or self._line[0].answer.wait(HEARTBEAT_SECONDS):
                    self._note(self._line.popleft())
                yield
        finally:
            for guest in self._line:
                if guest.answer:
                    guest.answer.cancel()

    def _fill(self) -> bool:
        """Have the next pictures in the engine; whether anything is left to wait for."""
        while len(self._line) < MAX_IN_FLIGHT:
            picture = next(self._rest, None)
            if picture is None:
                break
            self._line.append(self._begin(picture))
        return bool(self._line)

    def _begin(self, picture: UploadedImage) -> _Guest:
        digest = None
        try:
            image = ImageFile(picture.read())
            digest = image.digest
            if digest in self._begun:
                return _Guest(picture.file, digest)
            self._begun.add(digest)
            task = self._task
            asked = Request(image, task.prompt, task.language, (), task.model, task.options, background=True)
            return _Guest(picture.file, digest, self._engine.submit(asked))
        except UserError as error:
            return _Guest(picture.file, digest, error=error)
        except Exception:
            log.exception("an image was not prepared for the model")
            return _Guest(picture.file, digest, error=UserError(ANSWER_FAILED))

    def _note(self, guest: _Guest) -> None:
        if guest.answer is None and guest.error is None:
            record = replace(self._first[guest.digest or ""], file=guest.file, seconds=0.0)
            self.progress.copied += record.error is None
        else:
            record = self._record(guest)
            self._first[guest.digest or ""] = record
            self.progress.generated += record.error is None
        self.records.append(record)
        if record.error is not None:
            self.progress.errors.append((record.file, record.error))

    def _record(self, guest: _Guest) -> CaptionRecord:
        try:
            caption = guest.caption()
        except PromptError:
            raise
        except UserError as error:
            return self._task.record(guest.file, guest.digest, error=str(error))
        status = self._engine.status()
        if status.model == self._task.model:
            self._task = replace(self._task, precision=status.precision)
        return self._task.record(
            guest.file,
            guest.digest,
            caption=caption,
            tokens=guest.answer.tokens if guest.answer else 0,
            seconds=time.monotonic() - guest.since,
            repeats=guest.answer.repeats if guest.answer else False,
        )

    def _end_late(self) -> None:
        """Every picture that is left gets a record that says why it has no caption."""
        late = [*self._line, *(_Guest(picture.file) for picture in self._rest)]
        for guest in self._line:
            if guest.answer:
                guest.answer.cancel()
        self._line.clear()
        for guest in late:
            self._note(_Guest(guest.file, guest.digest, error=BusyError(TIMED_OUT)))
