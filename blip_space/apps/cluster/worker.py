"""What the folder job does in other processes, perhaps on other machines: a picture's bytes become captions.

Knows a model and rows as Ray Data hands them over, which is tables of Arrow's in and columns out; knows no cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from blip_space import images
from blip_space.catalogue import ModelSpec
from blip_space.errors import ImageError, UserError
from blip_space.jobs.folder_captioner import Caption, Captioner, PendingCaption
from blip_space.jobs.folder_listing import locate
from blip_space.jobs.image_reader import LoadedImage, load_image
from blip_space.jobs.records import CaptionTask

COLUMNS = ("number", "task", "caption", "tokens", "seconds", "repeats", "error", "fault")
FILE_CHANGED = "The file was changed while the job ran. Run it again."

Row = dict[str, Any]
Columns = dict[str, list[Any]]


def select_worker_precision(spec: ModelSpec, precision: str) -> tuple[str, str]:
    """The precision that this machine computes in where `precision` leaves it open, or a sentence why there is none."""
    from blip_space.loading import device
    from blip_space.loading import precision as precisions

    found = device.find_device()
    try:
        return precisions.select_precision(precision, spec, found, free=device.free_bytes(found.name)).name, ""
    except UserError as error:
        return "", str(error)


def read_files(rows: Any, folder: Path) -> Columns:
    """The rows with the bytes of their files, or why there are none. Where the folder is."""
    whole = [{**row, **_content(locate(folder, row["file"]))} for row in rows.to_pylist()]
    return {name: [row[name] for row in whole] for name in whole[0]}


class AttemptLog(Protocol):
    """See `attempts.Attempts`."""

    def begin(self, numbers: Sequence[int]) -> bool: ...
    def begin_alone(self, number: int, tasks: Sequence[int]) -> list[Row] | None: ...
    def end_alone(self, number: int, rows: list[Row]) -> None: ...


class Worker:
    """One model, and what is done with rows of pictures."""

    def __init__(
        self,
        spec: ModelSpec,
        tasks: Sequence[CaptionTask],
        *,
        batch_size: int | None,
        threads: int,
        attempts: AttemptLog | None = None,
    ) -> None:
        """What keeps the model from loading is told in place of captions, since Ray would wrap it up. `attempts` know
        which images workers died of."""
        from blip_space.loading import loader

        self._tasks = tasks
        self._attempts = attempts
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
        self._fault = ""
        try:
            self._captioner = Captioner(loader.load_model(spec, tasks[0].precision), batch_size=batch_size)
        except UserError as error:
            self._fault = str(error)

    def __call__(self, rows: Any) -> Columns:
        """A row for every caption or error, in any order."""
        told = [{"fault": self._fault}] if self._fault else list(self._noted(rows.to_pylist()))
        return {name: [row.get(name) for row in told] for name in COLUMNS}

    def _noted(self, rows: Sequence[Row]) -> Iterator[Row]:
        """The rows together, or one at a time where workers died of them."""
        attempts = self._attempts
        if attempts is None or attempts.begin([row["number"] for row in rows]):
            yield from self._told(rows)
            return
        for row in rows:
            known = attempts.begin_alone(row["number"], row["tasks"])
            if known is None:
                attempts.end_alone(row["number"], known := list(self._told([row])))
            yield from known

    def _told(self, rows: Sequence[Row]) -> Iterator[Row]:
        asked: dict[PendingCaption, Row] = {}
        try:
            for row, seen in zip(rows, self._pool.map(self._seen, rows), strict=True):
                own = {
                    PendingCaption(seen, self._tasks[task]): {"number": row["number"], "task": task}
                    for task in row["tasks"]
                }
                asked |= own
                yield from _rows(self._written(seen, list(own)), asked)
            yield from _rows(self._captioner.finish(), asked)
        finally:
            self._captioner.abort()  # where it broke off, so that the next call gets none of these

    def _written(self, seen: LoadedImage, wishes: Sequence[PendingCaption]) -> Iterable[Caption]:
        return [Caption(wish, error=seen.error) for wish in wishes] if seen.error else self._captioner.add(wishes)

    def _seen(self, row: Row) -> LoadedImage:
        if row["error"]:
            return LoadedImage(row["file"], row["digest"], error=row["error"])
        seen = load_image(row["file"], row["data"], self._captioner.prepare)
        return seen if seen.digest == row["digest"] else LoadedImage(row["file"], row["digest"], error=FILE_CHANGED)


def _rows(written: Iterable[Caption], asked: dict[PendingCaption, Row]) -> Iterator[Row]:
    for one in written:
        came = {name: getattr(one, name) for name in ("caption", "tokens", "seconds", "repeats", "error")}
        yield {**asked[one.pending], **came}


def _content(file: Path) -> Row:
    try:
        return {"data": images.read_file(file, max_bytes=images.MAX_FILE_BYTES), "error": ""}
    except ImageError as error:
        return {"data": b"", "error": str(error)}
