"""The work itself: every picture gets its line for every task, computed once, copied where pictures are equal.

Knows the ledger, the reader and a model that it loads only when something is left to do; knows no terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from blip_space.jobs.folder_captioner import Caption, Captioner, PendingCaption
from blip_space.jobs.image_reader import ImageReader, LoadedImage
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.records import CaptionTask, Key

if TYPE_CHECKING:
    from blip_space.models.interface import VisionLanguageModel

AHEAD_BATCHES = 2
"""So many batches of pictures are read ahead."""


@dataclass
class JobProgress:
    """How far the job is, in lines: pictures times tasks."""

    total: int
    generated: int = 0
    copied: int = 0
    skipped: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    """What could not be done, in this run or before, and why."""

    started_at: float = field(default_factory=time.monotonic)
    cancelled: bool = False

    @property
    def done(self) -> int:
        """Lines that need no more work."""
        return self.generated + self.copied + self.skipped + len(self.errors)

    @property
    def items_per_second(self) -> float:
        """Lines written a second since the first one was begun."""
        spent = time.monotonic() - self.started_at
        return (self.generated + self.copied) / spent if spent > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate, once there is something to estimate from."""
        return (self.total - self.done) / self.items_per_second if self.generated else None

    def __str__(self) -> str:
        """How far it is, in a few words."""
        left, failed = self.seconds_left, len(self.errors)
        parts = [f"{self.done:,} of {self.total:,}", f"{self.items_per_second:.1f} a second"]
        if left:
            parts.append(f"{left:.0f} s left" if left < 90 else f"{left / 60:.0f} min left")
        if failed:
            parts.append(f"{failed} error{'s' * (failed > 1)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class FolderJob:
    """What is to be done: which files of which folder, what is asked of each, and by which model."""

    folder: Path
    files: Sequence[str]
    tasks: Sequence[CaptionTask]
    load: Callable[[], VisionLanguageModel]
    batch_size: int | None = None
    workers: int = 2
    regenerate: bool = False
    """Whether what has a line already gets another one."""

    remote_workers: Callable[[Iterator[list[PendingCaption]]], Generator[list[Caption], None, None]] | None = None
    """Who writes in place of a model that is loaded here."""

    refused: Mapping[str, str] = field(default_factory=dict)
    """Files that are known to come to nothing, each with a sentence; they are not read."""


class FolderRun:
    """One run of a job."""

    def __init__(self, job: FolderJob, ledger: OutputLog, *, on_progress: Callable[[JobProgress], None]) -> None:
        self.progress = JobProgress(len(job.files) * len(job.tasks))
        self._job = job
        self._ledger = ledger
        self._tell = on_progress
        self._before = set[tuple[str, Key]]() if job.regenerate else set(ledger.entries)
        self._same: dict[Key, list[str]] = {}
        """Files that wait for the answer of an equal picture."""

        ahead = (job.batch_size or 64) * AHEAD_BATCHES
        self._reader = ImageReader(job.folder, workers=job.workers, prefetch=ahead, is_wanted=self._is_wanted)
        self._stopping = False

    def stop(self) -> None:
        """End after the batch in hand. From a signal's handler."""
        self._stopping = True

    def run(self) -> JobProgress:
        """Do all that is left to do."""
        files = [file for file in self._job.files if file not in self._job.refused]
        with closing(self._reader.load_all(files)) as seen:
            refused = (LoadedImage(file, None, error=error) for file, error in self._job.refused.items())
            wishes = self._wishes(chain(refused, seen))
            for written in self._elsewhere(wishes) if self._job.remote_workers else self._here(wishes):
                self._note(written)
        if not self._job.regenerate:
            self._ledger.remove_superseded()
        self.progress.cancelled = self._stopping
        self._tell(self.progress)
        return self.progress

    def _here(self, wishes: Iterator[list[PendingCaption]]) -> Iterator[Caption]:
        """What a model of ours writes, which is loaded for the first wish."""
        captioner: Captioner | None = None
        for some in wishes:
            if captioner is None:
                captioner = Captioner(self._job.load(), batch_size=self._job.batch_size)
                self._reader.prepare = captioner.prepare
                self.progress.started_at = time.monotonic()
            yield from captioner.add(self._prepared(some))
        if captioner:
            yield from captioner.finish()

    def _elsewhere(self, wishes: Iterator[list[PendingCaption]]) -> Iterator[Caption]:
        """What others write, of whom nobody waits for the rest when the job is stopped."""
        assert self._job.remote_workers is not None
        with closing(self._job.remote_workers(wishes)) as batches:
            for batch in batches:
                yield from batch
                if self._stopping:
                    return

    def _wishes(self, seen: Iterator[LoadedImage]) -> Iterator[list[PendingCaption]]:
        """For each file that needs the model: what is asked of it."""
        for one in seen:
            if self._stopping:
                return
            wishes = [wish for task in self._job.tasks if (wish := self._wish(one, task))]
            if wishes:
                yield wishes

    def _wish(self, seen: LoadedImage, task: CaptionTask) -> PendingCaption | None:
        """What the model is asked of this file; None where its line stands, or can be written without the model."""
        key = task.key(seen.digest or "")
        known = None if self._job.regenerate else self._ledger.captioned.get(key)
        if (seen.file, key) in self._before:
            self._stands((seen.file, key))
        elif seen.error is not None:
            self._fail(seen, task, seen.error)
        elif known is not None:
            self._ledger.append([replace(known, file=seen.file, model=task.model, seconds=0.0)])
            self.progress.copied += 1
        elif key in self._same:
            self._same[key].append(seen.file)
        else:
            self._same[key] = []
            return PendingCaption(seen, task)
        self._tell(self.progress)
        return None

    def _stands(self, line: tuple[str, Key]) -> None:
        """An earlier run wrote this line; an error of then is still one."""
        if error := self._ledger.errors.get(line):
            self.progress.errors.append((line[0], error))
        else:
            self.progress.skipped += 1

    def _prepared(self, wishes: Sequence[PendingCaption]) -> list[PendingCaption]:
        """Those again that were looked up before there was a model."""
        return [prepared for wish in wishes for prepared in self._once_more(wish)]

    def _once_more(self, wish: PendingCaption) -> Iterator[PendingCaption]:
        if wish.image.prepared is not None:
            yield wish
            return
        seen = self._reader.reload(wish.image)
        if seen.digest != wish.image.digest:
            yield from self._changed(wish, seen)
        elif seen.error is not None:
            self._fail_all(seen, wish.task, seen.error)
        else:
            yield PendingCaption(seen, wish.task)

    def _changed(self, wish: PendingCaption, seen: LoadedImage) -> Iterator[PendingCaption]:
        """The file shows something else by now; those that were equal to it still need the answer that it asked for."""
        key = wish.task.key(wish.image.digest or "")
        equal = self._same.pop(key, [])
        if equal:
            self._same[key] = equal[1:]
            yield from self._once_more(PendingCaption(LoadedImage(equal[0], wish.image.digest), wish.task))
        if other := self._wish(seen, wish.task):
            yield other

    def _note(self, written: Caption) -> None:
        wish = written.pending
        if written.error is not None:
            self._fail_all(wish.image, wish.task, written.error)
            return
        key = wish.task.key(wish.image.digest or "")
        first = wish.task.record(
            wish.image.file,
            wish.image.digest,
            caption=written.caption,
            tokens=written.tokens,
            seconds=written.seconds,
            repeats=written.repeats,
        )
        copies = [replace(first, file=file, seconds=0.0) for file in self._same.pop(key, [])]
        self._ledger.append([first, *copies])
        self.progress.generated += 1
        self.progress.copied += len(copies)
        self._tell(self.progress)

    def _fail_all(self, seen: LoadedImage, task: CaptionTask, error: str) -> None:
        """The file and those equal to it get a line that says why."""
        for file in [seen.file, *self._same.pop(task.key(seen.digest or ""), [])]:
            self._fail(LoadedImage(file, seen.digest), task, error)

    def _fail(self, seen: LoadedImage, task: CaptionTask, error: str) -> None:
        """A line that says why. While nobody knows what the file shows now, its caption of before stays instead."""
        if seen.digest is not None or not self._ledger.keep_previous((seen.file, task.key(""))):
            self._ledger.append([task.record(seen.file, seen.digest, error=error)])
        self.progress.errors.append((seen.file, error))
        self._tell(self.progress)

    def _is_wanted(self, file: str, digest: str) -> bool:
        keys = [task.key(digest) for task in self._job.tasks]
        return self._job.regenerate or any(
            (file, key) not in self._before and key not in self._ledger.captioned for key in keys
        )
