"""Reads, hashes and preprocesses images in a few threads, a limited number of images ahead of the model.

Depends on files and images; the preprocessing is passed in as a callable. Must not import models.
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
"""Turns a decoded image into the model's input, which is smaller, so that waiting images take less memory."""


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """A file that was read: its digest, and its preprocessed image or an error; neither if it was only hashed."""

    file: str
    digest: str | None
    prepared: Any = None
    error: str | None = None


class ImageReader:
    """Loads the files of a folder in `workers` threads, at most `prefetch` files ahead of their use."""

    def __init__(
        self, folder: Path, *, workers: int | None, prefetch: int, is_wanted: Callable[[str, str], bool]
    ) -> None:
        """`is_wanted(file, digest)` returns whether to preprocess a file; it is called from the reader's threads. If
        `workers` is None, the number of threads depends on the processors."""
        self._folder = folder
        self._is_wanted = is_wanted
        self._pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="images")
        self._is_preparing = False
        self.prefetch = prefetch
        """How many files are loaded ahead of their use."""

        self.prepare: Prepare | None = None
        """The preprocessing. As long as it is None, files are only hashed, since a run may find nothing left to do."""

        self.while_waiting: Callable[[], bool] = lambda: False
        """Called again and again while the next file is not loaded, until it returns False."""

    def load_all(self, files: Sequence[str]) -> Generator[LoadedImage, None, None]:
        """Load `files`, in order. If a file is wanted but came before `prepare` was set, call `load` for it again."""
        futures: deque[Future[LoadedImage]] = deque()
        rest = iter(files)
        try:
            for file in rest:
                self._prepare_hashed(futures)  # before files that are needed later
                futures.append(self._pool.submit(self.load, file))
                if len(futures) >= self.prefetch:
                    yield self._next(futures)
            while futures:
                self._prepare_hashed(futures)
                yield self._next(futures)
        finally:
            for future in futures:
                future.cancel()
            self._pool.shutdown(wait=True)

    def _prepare_hashed(self, futures: deque[Future[LoadedImage]]) -> None:
        """Once `prepare` is set, let the threads load those files again that were only hashed; if the caller's thread
        loaded them one by one, the GPU would have to wait."""
        if self.prepare is None or self._is_preparing:
            return
        self._is_preparing = True
        for index, future in enumerate(futures):
            if future.done() and self._is_unprepared(image := future.result()):
                futures[index] = self._pool.submit(self.load, image.file)

    def _next(self, futures: deque[Future[LoadedImage]]) -> LoadedImage:
        """The next loaded file; the caller may do other work until it is."""
        future = futures.popleft()
        while not future.done() and self.while_waiting():
            pass
        return future.result()

    def _is_unprepared(self, image: LoadedImage) -> bool:
        return image.digest is not None and image.prepared is None and self._is_wanted(image.file, image.digest)

    def load(self, file: str) -> LoadedImage:
        """Read and hash one file, and preprocess it if it is wanted and `prepare` is set."""
        try:
            data = read_image(self._folder, file)
        except ImageError as error:
            return LoadedImage(file, None, error=str(error))
        digest = images.digest(data)
        if not self._is_wanted(file, digest) or self.prepare is None:
            return LoadedImage(file, digest)
        return load_image(file, data, self.prepare)


def default_workers() -> int:
    """Half the number of processors that this process may use, but 2 to 8. The others run the model or drive a GPU."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(2, processors // 2))


def load_image(file: str, data: bytes, prepare: Prepare) -> LoadedImage:
    """Decode and preprocess the bytes of a file. An error is not raised, but becomes the `error` of the result."""
    image = images.ImageFile(data, max_bytes=images.MAX_FILE_BYTES)
    try:
        with image.open() as opened:
            return LoadedImage(file, image.digest, prepare(opened.pixels))
    except ImageError as error:
        return LoadedImage(file, image.digest, error=str(error))
    except Exception:
        log.exception("an image was not prepared for the model")
        return LoadedImage(file, image.digest, error=NOT_PREPARED)
