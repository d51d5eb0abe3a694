"""Counts how often the workers of a cluster started an image, so that one that kills workers is not retried forever.

Ray restarts a worker that dies and gives it the same images again, without limit. Depends on Ray and on images'
numbers; must not import anything that loads models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray

MAX_BATCHED_ATTEMPTS = 2
"""How often an image is started in a batch; after that it is started alone, once."""

WORKER_DIED = (
    f"Its worker died {MAX_BATCHED_ATTEMPTS + 1} times while it had this image, the last time with no other beside "
    "it. Try the image alone with the caption command, or leave it out; --retry-errors tries it again."
)

Rows = list[dict[str, Any]]


class Attempts:
    """Records which images were started, in a process that outlives the workers."""

    def __init__(self) -> None:
        self._counts = Counter[int]()
        self._alone: dict[int, Rows | None] = {}
        """The results of images that were started alone, by number; None if none came yet, or the worker died."""

    def begin(self, numbers: Sequence[int]) -> bool:
        """Record that images are started; returns True if they may run as one batch, False if each must run alone."""
        self._counts.update(numbers)
        return all(self._counts[number] <= MAX_BATCHED_ATTEMPTS for number in numbers)

    def begin_alone(self, number: int, tasks: Sequence[int]) -> Rows | None:
        """Record that an image starts alone; returns None. The second time, returns a result or error of each task."""
        if number not in self._alone:
            self._alone[number] = None
            return None
        results = self._alone[number]
        if results is None:
            return [{"number": number, "task": task, "error": WORKER_DIED} for task in tasks]
        return results

    def end_alone(self, number: int, rows: Rows) -> None:
        """Record the results of an image that was started alone."""
        self._alone[number] = rows


class SharedAttempts:
    """One `Attempts` for every worker of a job: a Ray actor on the machine that creates it."""

    def __init__(self) -> None:
        this_node = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        self._actor = ray.remote(Attempts).options(num_cpus=0, label_selector=this_node).remote()

    def begin(self, numbers: Sequence[int]) -> bool:
        """See `Attempts`."""
        return bool(ray.get(self._actor.begin.remote(numbers)))

    def begin_alone(self, number: int, tasks: Sequence[int]) -> Rows | None:
        """See `Attempts`."""
        rows: Rows | None = ray.get(self._actor.begin_alone.remote(number, tasks))
        return rows

    def end_alone(self, number: int, rows: Rows) -> None:
        """See `Attempts`."""
        ray.get(self._actor.end_alone.remote(number, rows))
