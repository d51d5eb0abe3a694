"""Tasks that are not in a core yet, in order of arrival; background tasks have a queue of their own.

Depends on prepared requests and responses; must not import a model. Has no lock of its own.
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
    """A prepared request for a model, its response and, once it is in a core, the core and its id there."""

    model: str
    request: PreparedRequest
    response: ResponseStream
    arrived_at: float
    core: EngineCore | None = None
    id: int = 0
    counted_tokens: int = 0
    """How many of its tokens the metrics have counted."""

    attempts: int = 0
    """How often an error of the engine's thread interrupted it."""


class TaskQueue:
    """Two queues: one for users, one for background tasks."""

    def __init__(self) -> None:
        self.waiting: deque[GenerationTask] = deque()
        self.background: deque[GenerationTask] = deque()

    def __iter__(self) -> Iterator[GenerationTask]:
        """All tasks, background tasks last."""
        return iter([*self.waiting, *self.background])

    def add(self, task: GenerationTask) -> None:
        """Add a task at the end of its queue."""
        self._of(task.request.background).append(task)

    def add_first(self, tasks: list[GenerationTask]) -> None:
        """Add tasks at the head of their queues, in this order."""
        for task in reversed(tasks):
            self._of(task.request.background).appendleft(task)

    def count(self, *, background: bool, address: str | None = None) -> int:
        """The number of tasks in that queue that are not done, of all addresses or of one."""
        tasks = (task for task in self._of(background) if address in (None, task.request.caller.address))
        return sum(not task.response.done for task in tasks)

    def position(self, task: GenerationTask) -> int | None:
        """How many tasks wait before `task`; None if it is not in the users' queue."""
        position = 0
        for earlier in self.waiting:
            if earlier is task:
                return position
            position += not earlier.response.done
        return None

    def take(self, ready: Callable[[GenerationTask], bool], *, background: bool) -> Iterator[GenerationTask]:
        """Remove and yield the ready tasks of that queue, in order; drop those that are done."""
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
        """Fail all tasks for that model; the next `take` removes them."""
        for task in self:
            if task.model == model:
                task.response.fail(error)

    def _of(self, background: bool) -> deque[GenerationTask]:
        return self.background if background else self.waiting
