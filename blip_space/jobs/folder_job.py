"""The folder job makes a record for every image and task. Duplicate images get a copy of the caption.

Depends on the output log and the image reader. Loads a model only if a caption is missing. Must not print.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from blip_space.jobs.folder_captioner import Caption, Captioner, PendingCaption
from blip_space.jobs.image_reader import ImageReader, LoadedImage
from blip_space.jobs.job_progress import JobProgress
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.records import CaptionRecord, CaptionTask, Key

if TYPE_CHECKING:
    from blip_space.models.interface import VisionLanguageModel

PREFETCH_BATCHES = 2
"""How many batches of images are loaded ahead of the model."""


@dataclass(frozen=True)
class FolderJob:
    """The files of a folder, the tasks for each of them, and how to load the model."""

    folder: Path
    files: Sequence[str]
    tasks: Sequence[CaptionTask]
    load: Callable[[], VisionLanguageModel]
    batch_size: int | None = None
    workers: int | None = None
    regenerate: bool = False
    """Whether to generate another caption for images that already have one, and to append it."""

    remote_workers: Callable[[Iterator[list[PendingCaption]]], Generator[list[Caption], None, None]] | None = None
    """A function that generates captions on other machines. If None, a model in this process generates them."""

    refused: Mapping[str, str] = field(default_factory=dict)
    """Error messages by file. These files get a record with the message, and are not read."""


class FolderRun:
    """One run of a folder job, which writes its records to an output log."""

    def __init__(self, job: FolderJob, output_log: OutputLog, *, on_progress: Callable[[JobProgress], None]) -> None:
        self.progress = JobProgress(len(job.files) * len(job.tasks))
        self._job = job
        self._output_log = output_log
        self._on_progress = on_progress
        self._earlier_entries = set[tuple[str, Key]]() if job.regenerate else set(output_log.entries)
        self._duplicates: dict[Key, list[str]] = {}
        """For each caption that is being generated: the files of duplicate images that will get a copy of it."""

        prefetch = (job.batch_size or 64) * PREFETCH_BATCHES
        self._reader = ImageReader(job.folder, workers=job.workers, prefetch=prefetch, is_wanted=self._is_missing)
        self._stopping = False

    def stop(self) -> None:
        """Make `run` return after the running batch. May be called in a signal handler."""
        self._stopping = True

    def run(self) -> JobProgress:
        """Generate all missing captions and return the progress. `DeviceError` if the GPU fails; finished ones stay."""
        files = [file for file in self._job.files if file not in self._job.refused]
        with closing(self._reader.load_all(files)) as loaded:
            refused = (LoadedImage(file, None, error=error) for file, error in self._job.refused.items())
            missing = self._missing_captions(chain(refused, loaded))
            for captions in self._remote(missing) if self._job.remote_workers else self._local(missing):
                self._write(captions)
        if not self._job.regenerate:
            self._output_log.remove_superseded()
        self.progress.cancelled = self._stopping
        self._on_progress(self.progress)
        return self.progress

    def _local(self, missing: Iterator[list[PendingCaption]]) -> Iterator[list[Caption]]:
        """Generate the captions with a model in this process. It is loaded when the first caption is needed."""
        captioner: Captioner | None = None
        for captions in missing:
            if captioner is None:
                captioner = Captioner(self._job.load(), batch_size=self._job.batch_size)
                self._reader.prepare = captioner.prepare
                self._reader.while_waiting = partial(self._write_next, captioner)
                self._reader.prefetch = max(self._reader.prefetch, captioner.batch_size * PREFETCH_BATCHES)
                self.progress.started_at = time.monotonic()
            yield from captioner.add([prepared for pending in captions for prepared in self._reload(pending)])
        if captioner:
            yield from captioner.finish()

    def _write_next(self, captioner: Captioner) -> bool:
        """Let the model work while an image is loaded, and write what it finishes; False if it had nothing to do."""
        if not captioner.works_while_waiting:
            return False
        for captions in captioner.step():
            self._write(captions)
        return True

    def _remote(self, missing: Iterator[list[PendingCaption]]) -> Iterator[list[Caption]]:
        """Generate the captions with remote workers. Once the job is stopped, unfinished captions are not awaited."""
        assert self._job.remote_workers is not None
        with closing(self._job.remote_workers(missing)) as batches:
            for batch in batches:
                yield batch
                if self._stopping:
                    return

    def _missing_captions(self, images: Iterator[LoadedImage]) -> Iterator[list[PendingCaption]]:
        """The captions that the model has to generate, as one list for each file with any; see `_needs_model`."""
        for image in images:
            if self._stopping:
                return
            captions = [PendingCaption(image, task) for task in self._job.tasks]
            if missing := list(filter(self._needs_model, captions)):
                yield missing

    def _needs_model(self, pending: PendingCaption) -> bool:
        """Whether the model has to generate the caption. If not, also record the result: count an existing record,
        append an error, copy the record of the same image, or queue a duplicate."""
        image, key = pending.image, pending.key
        record = None if self._job.regenerate else self._output_log.captioned.get(key)
        if (image.file, key) in self._earlier_entries:
            self._count_existing(image.file, key)
        elif image.error is not None:
            self._fail(pending, image.error)
        elif record is not None:
            self._output_log.append([replace(record, file=image.file, model=pending.task.model, seconds=0.0)])
            self.progress.copied += 1
        elif key in self._duplicates:
            self._duplicates[key].append(image.file)
        else:
            self._duplicates[key] = []
            return True
        self._on_progress(self.progress)
        return False

    def _count_existing(self, file: str, key: Key) -> None:
        """Count the record of an earlier run, as an error if it has one, else as skipped."""
        if error := self._output_log.errors.get((file, key)):
            self.progress.errors.append((file, error))
        else:
            self.progress.skipped += 1

    def _reload(self, pending: PendingCaption) -> Iterator[PendingCaption]:
        """The pending caption with pixel values. A file that was read before the model was loaded is read again."""
        if pending.image.prepared is not None:
            yield pending
            return
        image = self._reader.load(pending.image.file)
        if image.digest != pending.image.digest:
            yield from self._requeue_changed(pending, image)
        elif image.error is not None:
            self._fail_with_duplicates(pending, image.error)
        else:
            yield replace(pending, image=image)

    def _requeue_changed(self, pending: PendingCaption, image: LoadedImage) -> Iterator[PendingCaption]:
        """What to generate for a file that changed to `image`: its caption, and the pending one for a duplicate."""
        if duplicates := self._duplicates.pop(pending.key, []):
            self._duplicates[pending.key] = duplicates[1:]
            yield from self._reload(_with_file(pending, duplicates[0]))
        if self._needs_model(changed := replace(pending, image=image)):
            yield changed

    def _write(self, captions: Sequence[Caption]) -> None:
        """Write the records of captions and of their duplicates, all at once, and those of errors."""
        records = list[CaptionRecord]()
        for caption in captions:
            pending = caption.pending
            if caption.error is not None:
                self._fail_with_duplicates(pending, caption.error)
                continue
            first = pending.task.record(
                pending.image.file,
                pending.image.digest,
                caption=caption.caption,
                tokens=caption.tokens,
                seconds=caption.seconds,
                repeats=caption.repeats,
            )
            copies = [replace(first, file=file, seconds=0.0) for file in self._duplicates.pop(pending.key, [])]
            records += [first, *copies]
            self.progress.generated += 1
            self.progress.copied += len(copies)
        if records:
            self._output_log.append(records)
            self._on_progress(self.progress)

    def _fail_with_duplicates(self, pending: PendingCaption, error: str) -> None:
        """Write an error record for the file and for each of its duplicates."""
        for file in [pending.image.file, *self._duplicates.pop(pending.key, [])]:
            self._fail(_with_file(pending, file), error)

    def _fail(self, pending: PendingCaption, error: str) -> None:
        """Write an error record. If the file could not be read and has a previous caption, keep that one instead."""
        image = pending.image
        if image.digest is not None or not self._output_log.keep_previous((image.file, pending.key)):
            self._output_log.append([pending.task.record(image.file, image.digest, error=error)])
        self.progress.errors.append((image.file, error))
        self._on_progress(self.progress)

    def _is_missing(self, file: str, digest: str) -> bool:
        keys = [task.key(digest) for task in self._job.tasks]
        return self._job.regenerate or any(
            (file, key) not in self._earlier_entries and key not in self._output_log.captioned for key in keys
        )


def _with_file(pending: PendingCaption, file: str) -> PendingCaption:
    """The same pending caption for `file`, which is a duplicate of its image."""
    return replace(pending, image=LoadedImage(file, pending.image.digest))
