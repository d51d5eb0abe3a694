"""An engine in a process of its own, so that the page and the API do not take the interpreter from its steps.

The process is started again if it ends. Depends on `EngineProtocol`; must not import torch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import Budget, EngineConfig, Request
from blip_space.errors import DEVICE_EXIT_CODE, BusyError, ModelError, UserError
from blip_space.history import Turn
from blip_space.images.uploaded import UploadedImageFile
from blip_space.loading.device_errors import DEVICE_FAILED
from blip_space.serving.child_process import ChildProcess
from blip_space.serving.engine_process import Build
from blip_space.serving.offered_models import OfferedModels
from blip_space.serving.protocol import STOPPING, EngineStatus, open_response, seconds_to_answer
from blip_space.serving.response import ResponseStream
from blip_space.serving.threaded import ThreadedEngine

log = logging.getLogger(__name__)

STATUS_SECONDS = 0.05
"""How old a status may be, so that many pages do not ask for it one by one."""

REPLY_SECONDS = 1.0
"""How long a status is waited for: a process that imports its libraries may not reply."""

MAX_FAILED_STARTS = 3
"""How often in a row the process may end without having generated anything."""

NOT_STARTED = "The server is starting. Try again in a minute."
ENGINE_FAILS = "The engine ends each time that it starts; the server's log says why. It is tried again in {:.0f} s."


class ProcessEngine:
    """An `EngineProtocol` in front of a `ThreadedEngine` in another process."""

    replicas = 1

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        *,
        precision: str = "auto",
        device: str = "auto",
        config: EngineConfig | None = None,
        on_device_lost: Callable[[], object] = lambda: None,
        build: Build | None = None,
    ) -> None:
        """As `ThreadedEngine`. If the GPU fails, only the engine's process ends, and another one takes its place;
        `on_device_lost` is called once that has failed `MAX_FAILED_STARTS` times. `build`, which is pickled, replaces
        the `ThreadedEngine` in tests."""
        self._offered = OfferedModels(specs)
        self.specs, self.default = self._offered.specs, self._offered.default
        self._config = config or EngineConfig()
        self._on_device_lost = on_device_lost
        values: dict[str, Any] = {"precision": precision, "device": device, "config": self._config}
        self._build = build or partial(ThreadedEngine, list(specs), **values)
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._restarts = self._failed_starts = 0
        self._error = ""
        """Why there is no process."""

        self._no_status = EngineStatus("loading", self.default.name, precision, "", 0, 0)
        self._status = self._no_status
        self._status_at = -STATUS_SECONDS

    def start(self) -> None:
        """Start the process, which loads the default model and then answers requests, and the thread that receives."""
        self._child = ChildProcess(self._build)
        self._thread = threading.Thread(target=self._run, name="engine process", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End every answer with a `BusyError`, and wait for the process."""
        with self._lock:
            self._stopping.set()
        if self._child:
            self._child.stop()
        if self._thread:
            self._thread.join()

    def status(self) -> EngineStatus:
        """See `EngineProtocol`; at most `STATUS_SECONDS` old, or the last one that is known if there is no reply."""
        if self._error:
            return replace(self._no_status, status="failed", error=self._error)
        if self._child is None or self._child.has_ended:
            return self._no_status
        if time.monotonic() - self._status_at >= STATUS_SECONDS:
            with suppress(UserError, TimeoutError):
                status: EngineStatus = self._call("status", timeout=REPLY_SECONDS)
                metrics = replace(status.metrics, restarts=status.metrics.restarts + self._restarts)
                self._status, self._status_at = replace(status, metrics=metrics), time.monotonic()
        return self._status

    def submit(self, request: Request) -> ResponseStream:
        """See `EngineProtocol`. An error of the process, such as a full queue, ends the response."""
        self.resolve_model(request.model, request.language)
        child, response = self._running(), open_response(request, self._config)
        child.submit(request, response, seconds_to_answer(request, self._config))
        return response

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """See `EngineProtocol`; only the process knows whether a model loads."""
        return self._offered.resolve(model, language)

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """See `EngineProtocol`; computed by the process, which has the tokenizer."""
        self.resolve_model(model, language)
        values: dict[str, Any] = {"prompt": prompt, "language": language, "turns": turns, "model": model}
        budget: Budget = self._call("budget", timeout=None, **values, max_new_tokens=max_new_tokens)
        return budget

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `EngineProtocol`; None also while there is no reply."""
        precisions: tuple[str, ...] | None = None
        with suppress(UserError, TimeoutError):
            precisions = self._call("fitting_precisions", timeout=REPLY_SECONDS, spec=spec)
        return precisions

    def check_image(self, image: UploadedImageFile) -> None:
        """Check an uploaded image by the decoders of the process, which decode all other images too. Raises
        `UserError`."""
        self._call("check_image", timeout=None, image=image)

    def _running(self) -> ChildProcess:
        """The process. Raises `UserError` if there is none."""
        if self._stopping.is_set():
            raise BusyError(STOPPING, code="stopping")
        if self._error:
            raise ModelError(self._error)
        if self._child is None:
            raise BusyError(NOT_STARTED)
        return self._child

    def _call(self, method: str, *, timeout: float | None, **values: Any) -> Any:
        return self._running().call(method, timeout=timeout, **values)

    def _run(self) -> None:
        """Receive from the process, and start it again each time that it ends, until the engine stops."""
        while (child := self._child) is not None:
            code = child.receive()
            if self._stopping.is_set():
                return
            log.error("the engine's process ended with exit code %s", code)
            self._restarts += 1
            self._failed_starts = 0 if child.has_answered else self._failed_starts + 1
            self._status, self._status_at = self._no_status, -STATUS_SECONDS
            if not self._wait_to_restart(code):
                return
            with self._lock:
                if self._stopping.is_set():
                    return
                self._child = ChildProcess(self._build)

    def _wait_to_restart(self, code: int | None) -> bool:
        """After several failed starts, wait; False if the engine stops or the GPU cannot be used by any process."""
        if self._failed_starts < MAX_FAILED_STARTS:
            return True
        if code == DEVICE_EXIT_CODE:
            self._error = DEVICE_FAILED
            self._on_device_lost()
            return False
        seconds = self._config.failure_seconds
        self._error = ENGINE_FAILS.format(seconds)
        stopped = self._stopping.wait(seconds)
        self._error = ""
        return not stopped
