"""Captions a folder by a remote model: several images at once, while threads read and encode the next ones.

Depends on the engine of a remote model and on loaded images; must not import the output log.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.remote import PRECISION
from blip_space.engine.output import ANSWER_FAILED
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import RemoteError, UserError
from blip_space.images import MAX_FILE_BYTES, ImageFile
from blip_space.jobs.folder_captioner import CAPTION_FAILED, Caption, PendingCaption
from blip_space.jobs.folder_listing import read_image
from blip_space.jobs.image_reader import default_workers
from blip_space.serving.remote.engine import RemoteEngine
from blip_space.serving.response import ResponseStream

FILE_CHANGED = "The file was changed while the job ran. Run it again."
AHEAD = 2
"""How many captions are submitted for each that the server generates at once."""


@dataclass
class _Submitted:
    pending: PendingCaption
    response: Future[ResponseStream]
    started_at: float = field(default_factory=time.monotonic)

    def is_done(self) -> bool:
        return self.response.done() and (self.response.exception() is not None or self.response.result().done)

    def cancel(self) -> None:
        if not self.response.cancel() and self.response.exception() is None:
            self.response.result().cancel()


class RemoteCaptioner:
    """The captions of one folder; a context manager that starts and stops the engine."""

    def __init__(self, spec: ModelSpec, folder: Path, *, key: str, at_once: int | None, workers: int | None) -> None:
        """`at_once` is how many requests the server gets at once, None for the default of an engine."""
        config = EngineConfig(max_batch_size=at_once or 0).resolve()
        self._in_flight = AHEAD * config.max_batch_size
        self._config = EngineConfig(max_batch_size=config.max_batch_size, max_background=self._in_flight)
        self._spec, self._folder, self._key = spec, folder, key
        self._workers = workers or default_workers()

    def __enter__(self) -> RemoteCaptioner:
        """Start the engine."""
        self._engine = RemoteEngine(self._spec, key=self._key, config=self._config)
        self._engine.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the engine."""
        self._engine.stop()

    def select_precision(self, _requested: str) -> str:
        """What the records name as the precision."""
        return PRECISION

    def caption(self, pending: Iterable[list[PendingCaption]]) -> Generator[list[Caption], None, None]:
        """Yield captions as they finish. Raises `RemoteError` once the server cannot be used, since that is no error of
        the images."""
        submitted: deque[_Submitted] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="images") as pool:
            try:
                for items in pending:
                    for item in items:
                        while len(submitted) >= self._in_flight:
                            yield self._take_finished(submitted)
                        submitted.append(_Submitted(item, pool.submit(self._submit, item)))
                while submitted:
                    yield self._take_finished(submitted)
            finally:
                for entry in submitted:
                    entry.cancel()

    def _submit(self, item: PendingCaption) -> ResponseStream:
        image, task = ImageFile(read_image(self._folder, item.image.file), MAX_FILE_BYTES), item.task
        if image.digest != item.image.digest:
            raise UserError(FILE_CHANGED)
        return self._engine.submit(Request(image, task.prompt, task.language, options=task.options, background=True))

    def _take_finished(self, submitted: deque[_Submitted]) -> list[Caption]:
        """Wait for the first caption, and remove and return all that are finished then."""
        captions = [self._finish(submitted.popleft())]
        finished = [entry for entry in submitted if entry.is_done()]
        for entry in finished:
            submitted.remove(entry)
        return [*captions, *map(self._finish, finished)]

    def _finish(self, entry: _Submitted) -> Caption:
        try:
            response = entry.response.result()
            *_, text = response
        except RemoteError as error:
            if error.code == "remote_unavailable":
                raise
            return Caption(entry.pending, error=str(error))
        except UserError as error:
            return Caption(entry.pending, error=CAPTION_FAILED if str(error) == ANSWER_FAILED else str(error))
        seconds = time.monotonic() - entry.started_at
        return Caption(entry.pending, text, response.tokens, seconds, repeats=response.repeats)
