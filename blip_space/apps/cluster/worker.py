"""What a folder job's workers run, in other processes and perhaps on other machines: they caption images' bytes.

Batches of rows come from Ray Data as Arrow tables, and are returned as columns. Must not import Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blip_space.apps.failed_process import end_process
from blip_space.catalogue import ModelSpec
from blip_space.errors import DeviceError, ImageError, UserError
from blip_space.jobs.folder_captioner import Caption, Captioner, PendingCaption
from blip_space.jobs.folder_listing import read_image
from blip_space.jobs.image_reader import LoadedImage, load_image
from blip_space.jobs.records import CaptionTask

if TYPE_CHECKING:
    from blip_space.apps.cluster.attempts import SharedAttempts

COLUMNS = ("number", "task", "caption", "tokens", "seconds", "repeats", "error", "load_error")
FILE_CHANGED = "The file was changed while the job ran. Run it again."

Row = dict[str, Any]
Columns = dict[str, list[Any]]


def select_worker_precision(spec: ModelSpec, precision: str, wanted: str = "auto") -> tuple[str, str]:
    """The precision for this machine, and an error message; one of them is empty."""
    from blip_space.loading import device as devices
    from blip_space.loading import precision as precisions

    try:
        device = devices.find_device(wanted)
        return precisions.select_precision(precision, spec, device, free=devices.free_bytes(device.name)).name, ""
    except UserError as error:
        return "", str(error)


def read_files(rows: Any, folder: Path) -> Columns:
    """Add the bytes of its file, or an error message, to each row. Runs on the machine that has the folder."""
    with_data = [{**row, **_read_file(folder, row["file"])} for row in rows.to_pylist()]
    return {name: [row[name] for row in with_data] for name in with_data[0]}


class Worker:
    """A worker: one model, which captions batches of images."""

    def __init__(
        self,
        spec: ModelSpec,
        tasks: Sequence[CaptionTask],
        *,
        batch_size: int | None,
        threads: int,
        device: str = "auto",
        attempts: SharedAttempts | None = None,
    ) -> None:
        """`attempts` counts how often each image was started, to find those that kill workers. If the model does not
        load, every call returns `load_error` and no captions, since Ray would wrap an exception."""
        from blip_space.loading import loader

        self._tasks = tasks
        self._attempts = attempts
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
        self._load_error = ""
        try:
            model = loader.load_model(spec, tasks[0].precision, device=device)
            self._captioner = Captioner(model, batch_size=batch_size)
        except UserError as error:
            self._load_error = str(error)

    def __call__(self, rows: Any) -> Columns:
        """Caption a batch of images; returns a row for every caption or error, in any order. If the GPU fails, the
        process ends, so that Ray replaces it."""
        try:
            results = [{"load_error": self._load_error}] if self._load_error else list(self._process(rows.to_pylist()))
        except DeviceError:
            end_process()
            raise
        return {name: [row.get(name) for row in results] for name in COLUMNS}

    def _process(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Caption the rows as one batch, or one by one if workers died during earlier attempts."""
        attempts = self._attempts
        if attempts is None or attempts.begin([row["number"] for row in rows]):
            yield from self._caption(rows)
            return
        for row in rows:
            results = attempts.begin_alone(row["number"], row["tasks"])
            if results is None:
                attempts.end_alone(row["number"], results := list(self._caption([row])))
            yield from results

    def _caption(self, rows: Sequence[Row]) -> Iterator[Row]:
        keys: dict[PendingCaption, Row] = {}
        loading = [self._pool.submit(self._load_image, row) for row in rows]
        try:
            for row, future in zip(rows, loading, strict=True):
                while not future.done() and self._captioner.works_while_waiting:
                    yield from _to_rows(chain.from_iterable(self._captioner.step()), keys)
                image = future.result()
                pending = {
                    PendingCaption(image, self._tasks[task]): {"number": row["number"], "task": task}
                    for task in row["tasks"]
                }
                keys |= pending
                yield from _to_rows(self._add(image, list(pending)), keys)
            yield from _to_rows(chain.from_iterable(self._captioner.finish()), keys)
        finally:
            for future in loading:
                future.cancel()
            self._captioner.abort()  # after an error, so that the next call returns none of these captions

    def _add(self, image: LoadedImage, pending: Sequence[PendingCaption]) -> Iterable[Caption]:
        if image.error:
            return [Caption(item, error=image.error) for item in pending]
        return chain.from_iterable(self._captioner.add(pending))

    def _load_image(self, row: Row) -> LoadedImage:
        if row["error"]:
            return LoadedImage(row["file"], row["digest"], error=row["error"])
        image = load_image(row["file"], row["data"], self._captioner.prepare)
        return image if image.digest == row["digest"] else LoadedImage(row["file"], row["digest"], error=FILE_CHANGED)


def _to_rows(captions: Iterable[Caption], keys: dict[PendingCaption, Row]) -> Iterator[Row]:
    for caption in captions:
        values = {name: getattr(caption, name) for name in ("caption", "tokens", "seconds", "repeats", "error")}
        yield {**keys[caption.pending], **values}


def _read_file(folder: Path, name: str) -> Row:
    try:
        return {"data": read_image(folder, name), "error": ""}
    except ImageError as error:
        return {"data": b"", "error": str(error)}
