"""Images are read, hashed and preprocessed by a few threads, a bounded number ahead of the model.

Depends on files and images; gets the preprocessing as a callable and must not import models.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from blip_space import images
from blip_space.errors import ImageError
from blip_space.jobs.folder_listing import read_image

log = logging.getLogger(__name__)

NOT_PREPARED = "The image could not be prepared for the model; the log has the error. Try again with --retry-errors."

Prepare = Callable[[Image.Image], Any]
"""Preprocessing to what the model takes, which is much smaller than the decoded images that would wait otherwise."""


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One file: its digest, and its preprocessed image or an error; neither if no caption of it is missing."""

    file: str
    digest: str | None
    prepared: Any = None
    error: str | None = None


class ImageReader:
    """Loads a list of files ahead of their use."""

    def __init__(
        self, folder: Path, *, workers: int | None, prefetch: int, is_wanted: Callable[[str, str], bool]
    ) -> None:
        """`is_wanted(file, digest)` says whether to preprocess a file; it is called from the threads. The default of
        `workers` depends on the processors."""
        self._folder = folder
        self._is_wanted = is_wanted
        self._pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="images")
        self._is_preparing = False
        self.prefetch = prefetch
        """How many files are loaded ahead."""

        self.prepare: Prepare | None = None
        """Until it is set, files are only hashed, since most runs have nothing left to do."""

    def load_all(self, files: Sequence[str]) -> Generator[LoadedImage, None, None]:
        """The files in order. For one that is wanted but not preprocessed, set `prepare` and call `load`."""
        futures: deque[Future[LoadedImage]] = deque()
        rest = iter(files)
        try:
            for file in rest:
                futures.append(self._pool.submit(self.load, file))
                if len(futures) >= self.prefetch:
                    yield self._next(futures)
            while futures:
                yield self._next(futures)
        finally:
            for future in futures:
                future.cancel()
            self._pool.shutdown(wait=True)

    def _next(self, futures: deque[Future[LoadedImage]]) -> LoadedImage:
        """The next file. Once `prepare` is set, those that have only been hashed are loaded again by the threads: one
        after another on the caller's thread they would keep a GPU waiting."""
        if self.prepare is not None and not self._is_preparing:
            self._is_preparing = True
            for index, future in enumerate(futures):
                if future.done() and self._is_unprepared(image := future.result()):
                    futures[index] = self._pool.submit(self.load, image.file)
        return futures.popleft().result()

    def _is_unprepared(self, image: LoadedImage) -> bool:
        return image.digest is not None and image.prepared is None and self._is_wanted(image.file, image.digest)

    def load(self, file: str) -> LoadedImage:
        """One file, preprocessed if it is wanted and `prepare` is set."""
        try:
            data = read_image(self._folder, file)
        except ImageError as error:
            return LoadedImage(file, None, error=str(error))
        digest = images.digest(data)
        if not self._is_wanted(file, digest) or self.prepare is None:
            return LoadedImage(file, digest)
        return load_image(file, data, self.prepare)


def default_workers() -> int:
    """Half of the processors that this process may use, from 2 to 8: the others compute, or drive a GPU."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(2, processors // 2))


def load_image(file: str, data: bytes, prepare: Prepare) -> LoadedImage:
    """Decode and preprocess the bytes of a file; an error becomes a message in the result."""
    image = images.ImageFile(data, max_bytes=images.MAX_FILE_BYTES)
    try:
        with image.open() as opened:
            return LoadedImage(file, image.digest, prepare(opened.pixels))
    except ImageError as error:
        return LoadedImage(file, image.digest, error=str(error))
    except Exception:
        log.exception("an image was not prepared for the model")
        return LoadedImage(file, image.digest, error=NOT_PREPARED)
