"""What the engine's thread does: hand tasks to cores, load what is waited for, step every core, publish what is new.

Nobody waits for ever for a model that is not loaded: while a user does, later requests stay in the queue, what is in
the cores comes to its end, and then it is loaded. Only the engine's thread calls `iterate`, `load` and `recover`;
what other threads look at is guarded by the engine's lock. Must not import torch or anything of a page.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from blip_space.catalogue import ModelSpec
from blip_space.engine.output import ANSWER_FAILED, Output
from blip_space.errors import UserError
from blip_space.serving.metrics import Metrics, MetricsSnapshot
from blip_space.serving.model_manager import ModelManager
from blip_space.serving.response import ResponseStream
from blip_space.serving.task_queue import GenerationTask, TaskQueue

if TYPE_CHECKING:
    from blip_space.engine.core import EngineCore

log = logging.getLogger(__name__)


class Driver:
    """The cores of the loaded models, and every task that is not finished."""

    def __init__(
        self,
        models: ModelManager,
        metrics: Metrics,
        lock: AbstractContextManager[object],
        clock: Callable[[], float],
    ) -> None:
        self.queue = TaskQueue()
        """What no core takes: its model is not loaded, or it came after one for which that is so. Under the lock."""

        self._models = models
        self._metrics = metrics
        self._lock = lock
        self._clock = clock
        self._tasks: dict[int, GenerationTask] = {}
        """What is in a core, by its id there; changed under the lock."""

        self._stepped: EngineCore | None = None

    def iterate(self) -> bool:
        """One step of every core that has something to do, or one load; False where there was nothing."""
        self.cancel_done()
        wanted = self._distribute() if self.has_queue else None
        for_user = wanted is not None and not wanted.request.background
        cores = [model.core for model in self._models.loaded]
        if wanted is not None and self._is_quiet(cores, for_user=for_user):
            self.load(wanted.request.spec)
            return True
        busy = [core for core in cores if core.has_work]
        for core in busy:
            self._step(core, admit=not for_user or core.waiting > 0)
        return bool(busy)

    def add(self, task: GenerationTask) -> None:
        """Put a task into the core of its model, or where that cannot be yet, into the queue. Under the lock."""
        core = None if self.has_queue else self._models.core(task.model)
        if core is None:
            self.queue.add(task)
        else:
            self._add(task, core)

    def load(self, spec: ModelSpec) -> None:
        """Load a model; where that fails, everybody who waits for it is told."""
        self._stepped = None
        try:
            self._stepped = self._models.load(spec, self._release)  # which has set how many threads torch uses
        except UserError as error:
            self._fail_waiting(spec, error)

    def recover(self) -> None:
        """After a fault of the thread itself: what ran ends with a sentence, what waited is put into its core again."""
        for core in [model.core for model in self._models.loaded]:
            with self._lock:
                _, waited = core.abort_all()
                waiting = [task for number in waited if (task := self._tasks.pop(number, None))]
                for task in [task for task in self._tasks.values() if task.core is core]:
                    del self._tasks[task.id]
                    task.response.fail(UserError(ANSWER_FAILED))  # also where it was whole, and that was not published
                for task in waiting:
                    self._add(task, core)

    @property
    def has_queue(self) -> bool:
        """Whether anything waits for a model. Under the lock."""
        return bool(self.queue.waiting or self.queue.background)

    @property
    def unfinished(self) -> int:
        """How many tasks there are, running or not. Under the lock."""
        return len(self._tasks) + len(self.queue.waiting) + len(self.queue.background)

    def tasks(self) -> list[GenerationTask]:
        """All that are not finished. Under the lock."""
        return [*self._tasks.values(), *self.queue]

    def waiting(self, *, background: bool) -> int:
        """How many wait, in the queue or in a core. Under the lock."""
        cores = [model.core for model in self._models.loaded]
        in_cores = sum(core.background if background else core.waiting for core in cores)
        return self.queue.count(background=background) + in_cores

    def queue_position(self, task: GenerationTask) -> int | None:
        """How many wait before it; None where it does not wait, or is of the background. Under the lock."""
        if task.core is not None:
            return task.core.queue_position(task.id)
        position = self.queue.position(task)
        if position is None:
            return None
        return position + sum(model.core.waiting for model in self._models.loaded)

    def snapshot(self, restarts: int) -> MetricsSnapshot:
        """The metrics, with what every core counted, those of closed models included. From any thread."""
        models, cores = self._models, [model.core for model in self._models.loaded]
        return self._metrics.snapshot(
            image_feature_hits=models.image_feature_hits + sum(core.image_feature_hits for core in cores),
            kv_prefix_hits=models.kv_prefix_hits + sum(core.prefix_hits for core in cores),
            restarts=restarts + models.restarts + sum(core.restarts for core in cores),
        )

    def cancel_done(self) -> None:
        """What has ended is forgotten; what nobody waits for any more leaves its core at its next step. From any
        thread."""
        with self._lock:
            for task in [task for task in self._tasks.values() if task.response.done]:
                if task.core is not None:
                    task.core.cancel(task.id)
                del self._tasks[task.id]

    def _wanted(self) -> GenerationTask | None:
        """The first task whose model is to be loaded next, users' before those of the background; not one for which a
        model would have to leave that is to stay a while."""
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

    def _distribute(self) -> GenerationTask | None:
        """Give tasks to the cores of their models; the task whose model is to be loaded next. Those that come after it
        wait for its model as well; users come before the background, so one of the background holds up the background
        only."""
        wanted = self._wanted()
        loaded = {model.name for model in self._models.loaded}
        is_held = False

        def is_ready(task: GenerationTask) -> bool:
            nonlocal is_held
            is_held = is_held or task is wanted
            return not is_held and task.model in loaded

        with self._lock:
            for background in (False, True):
                for task in self.queue.take(is_ready, background=background):
                    core = self._models.core(task.model)
                    assert core is not None
                    self._add(task, core)
        return wanted

    def _is_quiet(self, cores: list[EngineCore], *, for_user: bool) -> bool:
        """Whether a model may be loaded: nothing runs, and nobody waits in a core who comes before."""
        if for_user:
            return not any(core.running or core.waiting for core in cores)
        with self._lock:
            return not any(core.has_work for core in cores) and not self.queue.count(background=False)

    def _release(self, core: EngineCore) -> None:
        """Before a model leaves: what waits in its core waits in the queue again."""
        with self._lock:
            ran, waited = core.abort_all()
            returned = [task for number in (*ran, *waited) if (task := self._tasks.pop(number, None))]
            for task in returned:
                task.core = None
            self.queue.add_first(returned)

    def _fail_waiting(self, spec: ModelSpec, error: UserError) -> None:
        """End everybody who waits for a model that cannot be had."""
        with self._lock:
            self.queue.fail(spec.name, error)

    def _step(self, core: EngineCore, *, admit: bool) -> None:
        if core is not self._stepped:
            from blip_space.models.threads import use_threads

            use_threads(core.model.threads)
            self._stepped = core
        tokens, first_tokens = 0, list[float]()
        outputs = core.step(self._clock(), admit=admit)
        with self._lock:  # which whoever adds a request holds until its task can be found
            tasks = [self._tasks.get(output.id) for output in outputs]
        for output, task in zip(outputs, tasks, strict=True):
            if task is None:
                continue
            fresh = max(0, output.tokens - task.counted_tokens)
            if fresh and _shows_first_token(task, output):
                first_tokens.append(time.monotonic() - task.arrived_at)
            tokens += fresh
            task.counted_tokens += fresh
            self._publish(task.response, output)
        if tokens:
            self._metrics.add(tokens, first_tokens)

    def _publish(self, response: ResponseStream, output: Output) -> None:
        """Hand on what is new of an answer."""
        if output.error is not None:
            response.fail(output.error)
            return
        response.tokens, response.repeats = output.tokens, output.repeats
        response.publish(output.text, finished=output.finished)

    def _add(self, task: GenerationTask, core: EngineCore) -> None:
        task.id, task.core = core.add(task.request), core
        self._tasks[task.id] = task


def _shows_first_token(task: GenerationTask, output: Output) -> bool:
    """Whether a user sees the first token of an answer now; a beam search shows nothing before its end."""
    is_watched = not task.request.background and task.request.options.quality == "stream"
    return is_watched and not task.counted_tokens and output.error is None
