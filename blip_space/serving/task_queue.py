"""Requests that no core takes yet: in the order of their arrival, those of the background apart.

Depends on prepared requests and their responses; must not import a model, and has no lock of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blip_space.engine.request import PreparedRequest
from blip_space.errors import UserError
from blip_space.serving.response import ResponseStream

if TYPE_CHECKING:
    from blip_space.engine.core import EngineCore


@dataclass(eq=False)
class GenerationTask:
    """A prepared request for a model, where its answer goes, and which core has it, by what id."""

    model: str
    request: PreparedRequest
    response: ResponseStream
    arrived_at: float
    core: EngineCore | None = None
    id: int = 0
    counted_tokens: int = 0
    """How many of its tokens are in the metrics."""


class TaskQueue:
    """Two queues: that of the users who wait, and that of the background."""

    def __init__(self) -> None:
        self.waiting: deque[GenerationTask] = deque()
        self.background: deque[GenerationTask] = deque()

    def __iter__(self) -> Iterator[GenerationTask]:
        """All tasks, those of the background last."""
        return iter([*self.waiting, *self.background])

    def add(self, task: GenerationTask) -> None:
        """At the end of its queue."""
        self._of(task.request.background).append(task)

    def add_first(self, tasks: list[GenerationTask]) -> None:
        """At the head of their queues, in this order."""
        for task in reversed(tasks):
            self._of(task.request.background).appendleft(task)

    def count(self, *, background: bool) -> int:
        """How many wait there and are not given up."""
        return sum(not task.response.done for task in self._of(background))

    def position(self, task: GenerationTask) -> int | None:
        """How many wait before it; None where it is not in the queue of the users."""
        before = 0
        for other in self.waiting:
            if other is task:
                return before
            before += not other.response.done
        return None

    def take(self, ready: Callable[[GenerationTask], bool], *, background: bool) -> Iterator[GenerationTask]:
        """Take out of that queue, in its order, those that are ready, and forget those that are given up."""
        queue = self._of(background)
        tasks = list(queue)
        queue.clear()
        for task in tasks:
            if task.response.done:
                continue
            if ready(task):
                yield task
            else:
                queue.append(task)

    def fail(self, model: str, error: UserError) -> None:
        """End everybody who waits for that model; `take` forgets them."""
        for task in self:
            if task.model == model:
                task.response.fail(error)

    def _of(self, background: bool) -> deque[GenerationTask]:
        return self.background if background else self.waiting
