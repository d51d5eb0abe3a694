"""The work of the engine's thread: dispatch tasks to cores, load models, step every core, publish the new text.

A request for a model that is not loaded is never starved: while a user waits for one, later requests stay in the queue,
the cores finish their requests, and then the model is loaded. Only the engine's thread calls `iterate`, `load` and
`recover`; what other threads read is guarded by the engine's lock, which the caller of a method "under the lock" holds.
Must not import torch or an app.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from blip_space.catalogue import ModelSpec
from blip_space.engine.output import ANSWER_FAILED, Output
from blip_space.engine.sequence import MAX_ATTEMPTS
from blip_space.errors import DeviceError, UserError
from blip_space.serving.machine import used_bytes
from blip_space.serving.metrics import Metrics, MetricsSnapshot
from blip_space.serving.model_manager import ModelManager
from blip_space.serving.publishing import publish_step
from blip_space.serving.task_queue import GenerationTask, TaskQueue

if TYPE_CHECKING:
    from blip_space.engine.core import EngineCore

log = logging.getLogger(__name__)


class Driver:
    """Steps the cores of the loaded models, and has every unfinished task."""

    def __init__(
        self,
        models: ModelManager,
        metrics: Metrics,
        lock: AbstractContextManager[object],
        clock: Callable[[], float],
    ) -> None:
        self.queue = TaskQueue()
        """Tasks whose model is not loaded, and those that arrived after them. Under the lock."""

        self._models = models
        self._metrics = metrics
        self._lock = lock
        self._clock = clock
        self._tasks: dict[int, GenerationTask] = {}
        """The tasks in a core, by their id there; changed under the lock."""

        self._stepped: EngineCore | None = None
        """The core for which torch's number of threads is set."""

    def iterate(self) -> bool:
        """Load one model, or step every core with work, or capture one graph; False if there was nothing to do. Raises
        `DeviceError` once the GPU has failed."""
        self.cancel_done()
        task = self._dispatch() if self.has_queue else None
        for_user = task is not None and not task.request.background
        cores = [model.core for model in self._models.loaded]
        if task is not None and self._may_load(cores, for_user=for_user):
            self.load(task.request.spec)
            return True
        busy = [core for core in cores if core.has_work]
        for core in busy:
            self._step(core, admit=not for_user or core.waiting > 0)
        return bool(busy) or any(core.capture_pending() for core in cores)

    def add(self, task: GenerationTask) -> None:
        """Add a task to its model's core, or to the queue if it has to wait for a model. Under the lock."""
        core = None if self.has_queue else self._models.core(task.model)
        if core is None:
            self.queue.add(task)
        else:
            self._add(task, core)

    def load(self, spec: ModelSpec) -> None:
        """Load a model; if that fails, fail every task that waits for it. Raises `DeviceError` if the GPU failed."""
        self._stepped = None
        try:
            self._stepped = self._models.load(spec, self._release)  # sets torch's number of threads
        except DeviceError:
            raise
        except UserError as error:
            self._fail_waiting(spec, error)

    def recover(self) -> None:
        """After an error of the thread itself, add the waiting tasks again, and once more, each alone in the batch, the
        running ones of which no user has read any text. The others fail."""
        for core in [model.core for model in self._models.loaded]:
            with self._lock:
                _, waited = core.abort_all()
                waiting = [task for id_ in waited if (task := self._tasks.pop(id_, None))]
                # those that ran, and those that finished and whose end was not published
                ran = [task for task in self._tasks.values() if task.core is core]
                for task in ran:
                    del self._tasks[task.id]
                for task in (*filter(_may_run_again, ran), *waiting):
                    self._add(task, core)

    @property
    def has_queue(self) -> bool:
        """Whether a task waits for a model. Under the lock."""
        return bool(self.queue.waiting or self.queue.background)

    @property
    def unfinished(self) -> int:
        """The number of tasks, running or waiting. Under the lock."""
        return len(self._tasks) + len(self.queue.waiting) + len(self.queue.background)

    def tasks(self) -> list[GenerationTask]:
        """All unfinished tasks. Under the lock."""
        return [*self._tasks.values(), *self.queue]

    def waiting(self, *, background: bool) -> int:
        """The number of tasks that wait, in the queue or in a core. Under the lock."""
        cores = [model.core for model in self._models.loaded]
        in_cores = sum(core.background if background else core.waiting for core in cores)
        return self.queue.count(background=background) + in_cores

    def waiting_of(self, address: str, *, background: bool) -> int:
        """How many of these tasks are from that address. Under the lock."""
        cores = [model.core for model in self._models.loaded]
        in_cores = sum(core.waiting_of(address, background=background) for core in cores)
        return self.queue.count(background=background, address=address) + in_cores

    def queue_position(self, task: GenerationTask) -> int | None:
        """How many tasks wait before `task`; None if it runs or is a background task. Under the lock."""
        if task.core is not None:
            return task.core.queue_position(task.id)
        position = self.queue.position(task)
        if position is None:
            return None
        return position + sum(model.core.waiting for model in self._models.loaded)

    def snapshot(self, restarts: int) -> MetricsSnapshot:
        """The metrics, with the counts of all cores, closed ones included. From any thread."""
        models, cores = self._models, [model.core for model in self._models.loaded]
        return self._metrics.snapshot(
            image_feature_hits=models.image_feature_hits + sum(core.image_feature_hits for core in cores),
            kv_prefix_hits=models.kv_prefix_hits + sum(core.prefix_hits for core in cores),
            restarts=restarts + models.restarts + sum(core.restarts for core in cores),
            **used_bytes(next((core.model.precision.device for core in cores), "")),
        )

    def cancel_done(self) -> None:
        """Forget all tasks that are done, and let their cores drop them at the next step. From any thread."""
        with self._lock:
            for task in [task for task in self._tasks.values() if task.response.done]:
                if task.core is not None:
                    task.core.cancel(task.id)
                del self._tasks[task.id]

    def _next_to_load(self) -> GenerationTask | None:
        """The first task, users' tasks first, whose model is not loaded and can be loaded now: no model that must stay
        has to be unloaded for it. Fails the tasks of models that cannot be loaded at all."""
        with self._lock:
            tasks = [task for task in self.queue if not task.response.done]
        loaded = {model.name for model in self._models.loaded}
        passed_over = set[str]()
        for task in tasks:
            if task.model in loaded or task.model in passed_over:
                continue
            try:
                if self._models.seconds_until(task.request.spec) <= 0:
                    return task
            except UserError as error:
                self._fail_waiting(task.request.spec, error)
            passed_over.add(task.model)
        return None

    def _dispatch(self) -> GenerationTask | None:
        """Add queued tasks to the cores of their models, up to the task whose model is loaded next, which is returned.
        Later tasks wait for that model as well. Users' tasks come first, so background tasks never delay them."""
        next_to_load = self._next_to_load()
        loaded = {model.name for model in self._models.loaded}
        is_held = False

        def is_ready(task: GenerationTask) -> bool:
            nonlocal is_held
            is_held = is_held or task is next_to_load
            return not is_held and task.model in loaded

        with self._lock:
            for background in (False, True):
                for task in self.queue.take(is_ready, background=background):
                    core = self._models.core(task.model)
                    assert core is not None
                    self._add(task, core)
        return next_to_load

    def _may_load(self, cores: list[EngineCore], *, for_user: bool) -> bool:
        """Whether a model may be loaded now: nothing runs, and no task that has priority waits."""
        if for_user:
            return not any(core.running or core.waiting for core in cores)
        with self._lock:
            return not any(core.has_work for core in cores) and not self.queue.count(background=False)

    def _release(self, core: EngineCore) -> None:
        """Before a model is unloaded, put the tasks of its core back into the queue."""
        with self._lock:
            ran, waited = core.abort_all()
            tasks = [task for id_ in (*ran, *waited) if (task := self._tasks.pop(id_, None))]
            for task in tasks:
                task.core = None
            self.queue.add_first(tasks)

    def _fail_waiting(self, spec: ModelSpec, error: UserError) -> None:
        """Fail the tasks that wait for a model that cannot be loaded."""
        with self._lock:
            self.queue.fail(spec.name, error)

    def _step(self, core: EngineCore, *, admit: bool) -> None:
        if core is not self._stepped:
            from blip_space.models.threads import use_threads

            use_threads(core.model.threads)
            self._stepped = core
        outputs = core.step(self._clock(), admit=admit)
        with self._lock:  # also held while a request is added, so that its task is found
            tasks = [self._tasks.get(output.id) for output in outputs]
        self._publish(zip(outputs, tasks, strict=True))
        if core.device_error:
            raise DeviceError(core.device_error)

    def _publish(self, outputs: Iterable[tuple[Output, GenerationTask | None]]) -> None:
        publish_step(outputs, self._metrics)

    def _add(self, task: GenerationTask, core: EngineCore) -> None:
        task.id, task.core = core.add(task.request, attempts=task.attempts), core
        self._tasks[task.id] = task


def _may_run_again(task: GenerationTask) -> bool:
    """Count an attempt that failed. Fails the task if it was the last one, or if a user has read text of it."""
    task.attempts += 1
    has_text = task.response.first_text_at is not None and not task.request.background
    if task.attempts < MAX_ATTEMPTS and not has_text and not task.response.done:
        return True
    task.response.fail(UserError(ANSWER_FAILED, code="internal_error"))
    return False
