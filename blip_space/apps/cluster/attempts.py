"""How often the workers of a cluster began an image, so that one that ends its worker is not tried for ever.

Ray replaces a worker that dies and gives it the same images again, without end. Depends on Ray and numbers of images;
must not import anything that loads models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray

MAX_BATCHED_ATTEMPTS = 2
"""So often images are begun together; after that each is begun alone, once."""

WORKER_DIED = (
    f"Its worker died {MAX_BATCHED_ATTEMPTS + 1} times while it had this image, the last time with no other beside it. Try "
    "the image alone with the caption command, or leave it out; --retry-errors tries it again."
)

Rows = list[dict[str, Any]]


class Attempts:
    """What was begun, in a process that outlives the workers."""

    def __init__(self) -> None:
        self._begun = Counter[int]()
        self._alone: dict[int, Rows | None] = {}
        """What came of images that were begun alone; nothing yet, or nothing ever."""

    def begin(self, numbers: Sequence[int]) -> bool:
        """Note that these images are begun; whether together, or each alone."""
        self._begun.update(numbers)
        return all(self._begun[number] <= MAX_BATCHED_ATTEMPTS for number in numbers)

    def begin_alone(self, number: int, tasks: Sequence[int]) -> Rows | None:
        """Note that this image is begun alone; what is known to come of it, of each of its tasks."""
        if number not in self._alone:
            self._alone[number] = None
            return None
        known = self._alone[number]
        return (
            known if known is not None else [{"number": number, "task": task, "error": WORKER_DIED} for task in tasks]
        )

    def end_alone(self, number: int, rows: Rows) -> None:
        """Note what came of it."""
        self._alone[number] = rows


class SharedAttempts:
    """The same for every worker of a job, as an actor of Ray's on the machine of whoever made it."""

    def __init__(self) -> None:
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        self._actor = ray.remote(Attempts).options(num_cpus=0, label_selector=here).remote()

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
