"""Pictures on their way to the model: read, known by their digest and decoded by a few threads, a bounded number ahead.

Knows files and pictures; knows a model only by how it wants them squashed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from blip_space import images
from blip_space.errors import ImageError
from blip_space.jobs.folder_listing import locate

log = logging.getLogger(__name__)

NOT_PREPARED = "The image could not be prepared for the model; the log says why. Try again with --retry-errors."

Prepare = Callable[[Image.Image], Any]
"""From a picture to what the model takes; so many pictures wait for it that their own pixels would fill the memory."""


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One file: its digest, and what the model takes, or why there is none. Neither where nobody wants it."""

    file: str
    digest: str | None
    prepared: Any = None
    error: str | None = None


class ImageReader:
    """Looks ahead in a list of files."""

    def __init__(self, folder: Path, *, workers: int, prefetch: int, is_wanted: Callable[[str, str], bool]) -> None:
        """`is_wanted` is asked with a file and its digest, from the threads."""
        self._folder = folder
        self._is_wanted = is_wanted
        self._ahead = prefetch
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
        self.prepare: Prepare | None = None
        """Until it is set, files are only looked up, since most runs have nothing left to do."""

    def load_all(self, files: Sequence[str]) -> Generator[LoadedImage, None, None]:
        """The files in order. Whoever gets one that is wanted and not prepared sets `prepare` and asks `again`."""
        waiting: deque[Future[LoadedImage]] = deque()
        rest = iter(files)
        try:
            for file in rest:
                waiting.append(self._pool.submit(self._look, file))
                if len(waiting) >= self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            self._pool.shutdown(wait=True)

    def reload(self, seen: LoadedImage) -> LoadedImage:
        """The same file once more, now with what the model takes."""
        return self._look(seen.file)

    def _look(self, file: str) -> LoadedImage:
        try:
            data = images.read_file(locate(self._folder, file), max_bytes=images.MAX_FILE_BYTES)
        except ImageError as error:
            return LoadedImage(file, None, error=str(error))
        digest = images.digest(data)
        if not self._is_wanted(file, digest) or self.prepare is None:
            return LoadedImage(file, digest)
        return load_image(file, data, self.prepare)


def load_image(file: str, data: bytes, prepare: Prepare) -> LoadedImage:
    """What the model takes of a file's bytes, or why there is none."""
    image = images.ImageFile(data, max_bytes=images.MAX_FILE_BYTES)
    try:
        with image.open() as opened:
            return LoadedImage(file, image.digest, prepare(opened.pixels))
    except ImageError as error:
        return LoadedImage(file, image.digest, error=str(error))
    except Exception:
        log.exception("an image was not prepared for the model")
        return LoadedImage(file, image.digest, error=NOT_PREPARED)
