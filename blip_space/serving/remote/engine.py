"""`RemoteEngine`, the engine of one remote model: an event loop in a thread sends requests and reads their answers.

A request is prepared on its caller's thread, where its image is decoded and made smaller. Must not import openai, torch
or an app.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Literal

from blip_space.catalogue import ModelSpec
from blip_space.catalogue.remote import PRECISION
from blip_space.engine.pixel_cache import PixelCache
from blip_space.engine.request import Budget, EngineConfig, Request
from blip_space.errors import BusyError
from blip_space.history import Turn
from blip_space.images.encoding import encode_for_sending
from blip_space.reasons import Reason
from blip_space.serving.offered_models import OfferedModels
from blip_space.serving.protocol import STOPPING, EngineStatus, open_response, queue_full, seconds_to_answer, stopped
from blip_space.serving.remote.attempts import AttemptError, Timeouts
from blip_space.serving.remote.connection import Connection, ServerModels
from blip_space.serving.remote.generation import Generation, RemoteTask
from blip_space.serving.remote.messages import compose_messages, describe_window, estimate_budget, with_image
from blip_space.serving.remote.queue import RequestQueue
from blip_space.serving.response import ResponseStream

log = logging.getLogger(__name__)

CHECK_SECONDS, FAILED_CHECK_SECONDS = 60.0, 5.0
"""How often the server is asked for its models, and how often while it cannot be reached."""


class RemoteEngine:
    """An `EngineProtocol` for the model of another server."""

    replicas = 1

    def __init__(
        self, spec: ModelSpec, *, key: str = "", config: EngineConfig | None = None, timeouts: Timeouts | None = None
    ) -> None:
        """Sends at most `max_batch_size` requests of `config` at once. Raises `ModelError` if openai is not
        installed."""
        self._offered = OfferedModels([spec])
        self.specs, self.default = self._offered.specs, spec
        self._config = (config or EngineConfig()).resolve()
        self._connection = Connection(spec, key, timeouts or Timeouts())
        self._images = PixelCache(self._config.pixel_cache_bytes)
        self._generation = Generation(self._connection, self._set_error)
        self._queue: RequestQueue[RemoteTask] = RequestQueue(self._config.max_batch_size)
        self._lock = threading.RLock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"remote {spec.server_host}", daemon=True)
        self._is_stopping = False
        self._server: ServerModels | None = None
        """What the server said last; None until it has responded."""

        self._error = ""
        """Why the server cannot answer, by the last request; empty if it could."""

    def start(self) -> None:
        """Start the thread, which first asks the server for its models."""
        self._thread.start()

    def stop(self) -> None:
        """See `EngineProtocol`."""
        with self._lock:
            self._is_stopping = True
            waiting, running = self._queue.remove_all(), list(self._queue.running)
        for task in waiting:
            task.response.fail(stopped(was_running=False))
        for task in running:
            task.response.fail(stopped(was_running=True))
        if self._thread.is_alive():
            self._call(self._loop.stop)
            self._thread.join(timeout=10)

    def status(self) -> EngineStatus:
        """See `EngineProtocol`."""
        with self._lock:
            waiting, running = self._queue.waiting(background=False), len(self._queue.running)
            state: Literal["ready", "loading", "failed"] = "ready" if self._server else "loading"
            if self._error:
                state = "failed"
            return EngineStatus(
                *(state, self.default.name, PRECISION, self.default.server_host, waiting, running),
                reason=self._describe_server(),
                error=self._error,
                metrics=self._generation.snapshot(),
                loaded=(self.default.name,) if state == "ready" else (),
                rows=self._config.max_batch_size,
            )

    def submit(self, request: Request) -> ResponseStream:
        """See `EngineProtocol`; the image is decoded and encoded on this thread."""
        spec, options = self.resolve_model(request.model, request.language), request.options
        self._check_queue(background=request.background)
        response = open_response(request, self._config)
        prompt = compose_messages(
            request.turns,
            request.prompt,
            language=request.language,
            context_tokens=self._context_tokens,
            max_new_tokens=options.max_new_tokens,
        )
        key = spec.name, request.image.digest
        image = self._images.get_or_compute(key, lambda: encode_for_sending(request.image))
        deadline = time.monotonic() + seconds_to_answer(request, self._config)
        messages = with_image(prompt, image.url)
        self._enqueue(RemoteTask(messages, options, response, deadline, request.caller, background=request.background))
        return response

    def resolve_model(self, model: str, language: str) -> ModelSpec:
        """See `EngineProtocol`."""
        return self._offered.resolve(model, language)

    def budget(self, *, prompt: str, language: str, turns: Sequence[Turn], model: str, max_new_tokens: int) -> Budget:
        """See `EngineProtocol`; estimates, within the window that the server reports."""
        spec, tokens = self.resolve_model(model, language), self._context_tokens
        is_reported = bool(self._server and self._server.context_tokens)
        return estimate_budget(
            turns,
            prompt,
            language=language,
            context_tokens=tokens,
            max_new_tokens=max_new_tokens,
            note=describe_window(spec.server_host, tokens, is_reported=is_reported),
        )

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:  # noqa: ARG002
        """None: nothing of the model is on this machine."""
        return None

    @property
    def _context_tokens(self) -> int:
        return (self._server.context_tokens if self._server else None) or self.default.context_tokens

    def _describe_server(self) -> Reason:
        listed = self._server.names if self._server else ()
        if listed and self.default.name not in listed:
            names = ", ".join(listed[:5])
            return Reason(f"the server lists {names}, and not this model", "not_listed", models=names)
        return Reason("another server answers", "remote")

    def _check_queue(self, *, background: bool) -> None:
        if self._is_stopping:
            raise BusyError(STOPPING, code="stopping")
        with self._lock:
            limit = self._config.max_background if background else self._config.max_waiting
            waiting = self._queue.waiting(background=background)
        if waiting >= limit:
            raise BusyError(queue_full(waiting))

    def _enqueue(self, task: RemoteTask) -> None:
        task.response.queue_position = lambda: self._position(task)
        task.response.on_cancel = lambda: self._call(self._cancel, task)
        with self._lock:
            self._check_queue(background=task.background)
            self._queue.add(task)
        self._call(self._start_waiting)

    def _position(self, task: RemoteTask) -> int | None:
        with self._lock:
            return self._queue.position(task)

    def _call(self, function: Any, *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(function, *arguments)

    def _run(self) -> None:
        """The thread: it owns the loop, and with it every connection."""
        asyncio.set_event_loop(self._loop)
        checking = self._loop.create_task(self._check_regularly())
        self._loop.call_soon(self._start_waiting)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._finish(asyncio.gather(checking, *tasks, return_exceptions=True))
            self._finish(self._connection.close())
            self._loop.close()

    def _finish(self, work: Coroutine[Any, Any, Any] | asyncio.Future[Any]) -> None:
        with suppress(Exception):
            self._loop.run_until_complete(work)

    async def _check_regularly(self) -> None:
        while True:
            try:
                self._server = await self._connection.models()
                self._set_error("")
            except AttemptError as error:
                self._set_error(error.sentence)
            except Exception:
                log.exception("the models of a server could not be listed")
            await asyncio.sleep(FAILED_CHECK_SECONDS if self._error else CHECK_SECONDS)

    def _set_error(self, error: str) -> None:
        if error and error != self._error:
            log.warning("%s: %s", self.default.name, error)
        self._error = error

    def _start_waiting(self) -> None:
        """On the loop: send waiting requests while there is a free place."""
        while True:
            with self._lock:
                task = None if self._is_stopping else self._queue.start_next()
                if task is None:
                    return
            task.running = self._loop.create_task(self._answer(task))

    def _cancel(self, task: RemoteTask) -> None:
        """On the loop: forget a request that waits, or end one that runs."""
        with self._lock:
            is_waiting = self._queue.remove(task)
        if not is_waiting and task.running:
            task.running.cancel()

    async def _answer(self, task: RemoteTask) -> None:
        try:
            await self._generation.run(task)
        finally:
            with self._lock:
                self._queue.end(task)
            self._start_waiting()
