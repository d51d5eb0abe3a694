"""Accepts the requests of many users, limits how many wait, and runs one thread, which owns models and cores.

Must not import torch at module level, so that the page is up before torch is imported. No other thread calls a model; a
request is tokenized and its image decoded on the caller's thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from blip_space.callers import Caller
from blip_space.catalogue import ModelSpec
from blip_space.engine.pixel_cache import PixelCache
from blip_space.engine.request import Budget, EngineConfig, PreparedRequest, Request, measure_budget, prepare
from blip_space.errors import BusyError, DeviceError, ModelError
from blip_space.history import Turn
from blip_space.loading.device_errors import as_device_error, is_device_lost
from blip_space.serving.driver import Driver
from blip_space.serving.machine import Machine
from blip_space.serving.metrics import Metrics
from blip_space.serving.model_manager import FindMemory, Load, ModelManager
from blip_space.serving.offered_models import OfferedModels
from blip_space.serving.preparations import LoadPreparation, Preparations
from blip_space.serving.protocol import STOPPING, EngineStatus, open_response, stopped
from blip_space.serving.queue_limits import check_queue
from blip_space.serving.response import ResponseStream
from blip_space.serving.task_queue import GenerationTask

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""How often the thread checks whether time has changed anything: a timeout, or a model that may be unloaded now."""

RESTART_SECONDS = 0.3
"""A thread that died is replaced after this time, or before the next request or status."""

GATHER_SECONDS = 0.005
"""How long an idle engine waits for requests that are being prepared, to prefill them with the first."""


class ThreadedEngine:
    """An `EngineProtocol` in this process."""

    replicas = 1

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        *,
        precision: str = "auto",
        device: str = "auto",
        config: EngineConfig | None = None,
        on_device_lost: Callable[[], object] = lambda: None,
        load: Load | None = None,
        load_preparation: LoadPreparation | None = None,
        find_memory: FindMemory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`specs` are the models that users may choose, the default first. `on_device_lost` is called on the engine's
        thread once the GPU has failed and every answer has ended: this process can generate no other. The arguments
        from `load` on replace the loader, the free memory and the clock in tests."""
        self._offered = OfferedModels(specs)
        self.specs, self.default = self._offered.specs, self._offered.default
        self._config = config or EngineConfig()
        self._pixels = PixelCache(self._config.pixel_cache_bytes)
        self._preparations = Preparations(specs, load_preparation)
        self._machine, self._on_device_lost = Machine(device), on_device_lost
        self._models = ModelManager(
            precision, self._config, machine=self._machine, load=load, find_memory=find_memory, clock=clock
        )
        self._metrics = Metrics()
        self._changed = threading.Condition()
        self._driver = Driver(self._models, self._metrics, self._changed, clock)
        self._thread: threading.Thread | None = None
        self._is_dead = self._is_stopping = self._is_notified = False
        self._restarts = self._preparing = 0
        self._device_error = ""
        """The message for every request once the GPU has failed."""

    def start(self) -> None:
        """Start the thread, which loads the default model and then answers requests."""
        with self._changed:
            self._start_thread()

    def stop(self) -> None:
        """End every answer with a `BusyError`, and wait for the thread."""
        with self._changed:
            self._is_stopping = self._is_notified = True
            for task in self._driver.tasks():
                task.response.fail(stopped(was_running=bool(task.counted_tokens)))
            self._changed.notify_all()
            thread = self._thread
        if thread and thread.is_alive():
            thread.join(timeout=10)

    def status(self) -> EngineStatus:
        """See `EngineProtocol`. Restarts the thread if it died."""
        models, loaded = self._models, self._models.loaded
        with self._changed:
            self._restart_thread()
            waiting = self._driver.waiting(background=False)
        running, names = sum(model.core.running for model in loaded), tuple(model.name for model in loaded)
        error = self._device_error or models.last_error
        loading = models.loading or ("" if loaded or error else self.default.name)
        if loaded and not loading and not self._device_error:
            precision = loaded[-1].core.model.precision
            decode, decode_reason = loaded[-1].core.decode_mode
            return EngineStatus(
                *("ready", names[-1], precision.name, precision.device, waiting, running, precision.reason),
                metrics=self._driver.snapshot(self._restarts),
                loaded=names,
                decode=decode,
                decode_reason=decode_reason,
                rows=self._limits().max_batch_size,
            )
        state: Literal["loading", "failed"] = "loading" if loading else "failed"
        return EngineStatus(
            *(state, loading or self.default.name, models.precision, "", waiting, running),
            error="" if loading else error,
            load_progress=models.progress.estimate() if models.loading else None,
            loaded=names,
        )

    def submit(self, request: Request) -> ResponseStream:
        """See `EngineProtocol`; the request is prepared on this thread."""
        response = open_response(request, self._config)
        self.answer(request, response)
        return response

    def answer(self, request: Request, response: ResponseStream) -> None:
        """Like `submit`, for a response that the caller made."""
        spec = self.resolve_model(request.model, request.language)
        with self._changed:
            self._check_queue(request.caller, background=request.background)  # before its image is decoded
            self._preparing += 1
        try:
            prepared = prepare(request, self._preparations.get(spec), self._pixels)
        finally:
            with self._changed:
                self._preparing -= 1
        self._enqueue(prepared, response)

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """See `EngineProtocol`. A model that failed to load is refused for a while."""
        spec = self._offered.resolve(model, language)
        if failure := self._models.failure(spec.name):
            raise ModelError(failure)
        return spec

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """See `EngineProtocol`; needs no weights."""
        preparation = self._preparations.get(self.resolve_model(model, language))
        return measure_budget(preparation, prompt=prompt, language=language, turns=turns, max_new_tokens=max_new_tokens)

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `EngineProtocol`; None until the first load has ended, and once the GPU has failed."""
        loaded = self._models.loaded
        if self._device_error or not (loaded or self._models.last_error):
            return None
        return self._machine.fitting_precisions(spec, freed=sum(model.nbytes for model in loaded))

    def _enqueue(self, request: PreparedRequest, response: ResponseStream) -> None:
        task = GenerationTask(request.spec.name, request, response, time.monotonic())
        response.prompt_tokens = len(request.prompt)
        response.queue_position = lambda: self._queue_position(task)
        with self._changed:
            self._check_queue(request.caller, background=request.background)
            self._driver.add(task)
            self._is_notified = True
            self._restart_thread()
            self._changed.notify_all()

    def _check_queue(self, caller: Caller, *, background: bool) -> None:
        if self._is_stopping:
            raise BusyError(STOPPING, code="stopping")
        if self._device_error:
            raise DeviceError(self._device_error)
        check_queue(self._driver, self._limits(), caller, background=background)

    def _limits(self) -> EngineConfig:
        """The configuration with the limits of the loaded model that runs most rows; until then those of a CPU."""
        configs = [model.core.config for model in self._models.loaded]
        return max(configs, key=lambda config: config.max_batch_size, default=self._config.resolve())

    def _queue_position(self, task: GenerationTask) -> int | None:
        with self._changed:
            return self._driver.queue_position(task)

    def _restart_thread(self) -> None:
        """Start another thread if the last one died. Under the lock, so that there is exactly one."""
        if self._is_dead and not self._is_stopping and not self._device_error:
            log.error("the engine's thread died; starting another one")
            self._restarts += 1
            self._start_thread()

    def _start_thread(self) -> None:
        self._is_dead = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._driver.recover()  # does nothing unless an earlier thread died
            if not self._models.loaded:
                self._driver.load(self.default)
            is_idle = False
            while self._wait(is_idle=is_idle):
                try:
                    is_idle = not self._driver.iterate()
                except Exception as error:
                    if is_device_lost(error):
                        raise
                    log.exception("an iteration of the engine's thread failed")
                    self._restarts += 1
                    self._driver.recover()
        except Exception as error:
            if not is_device_lost(error):
                raise
            self._lose_device(str(as_device_error(error)))
        finally:
            with self._changed:
                self._is_dead = True
            if not (self._is_stopping or self._device_error):
                timer = threading.Timer(RESTART_SECONDS, self.status)
                timer.daemon = True  # else it would delay the end of the process
                timer.start()

    def _lose_device(self, message: str) -> None:
        """End every answer: no model can be used any more, whichever core the error was in."""
        with self._changed:
            self._device_error = message
            for task in self._driver.tasks():
                task.response.fail(DeviceError(message))
        self._on_device_lost()

    def _wait(self, *, is_idle: bool) -> bool:
        """If idle, wait until notified. Returns False if the engine is stopping."""
        with self._changed:
            if is_idle and not self._is_notified:
                self._changed.wait(POLL_SECONDS if self._driver.has_queue else None)
            if is_idle and self._preparing and not self._is_stopping:  # to prefill them together
                self._changed.wait_for(lambda: not self._preparing, GATHER_SECONDS)
            self._is_notified = False
            return not self._is_stopping
