"""One engine of many, in a process of its own, perhaps on another machine.

Depends on an engine and on what travels of its answers; must not import Ray. Sentences travel as values, since what Ray
raises is a traceback.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.engine.request import Budget, EngineConfig, Request
from blip_space.errors import UserError
from blip_space.serving.protocol import EngineProtocol, EngineStatus
from blip_space.serving.response import ResponseStream
from blip_space.serving.threaded import ThreadedEngine

HEARTBEAT_SECONDS = 0.25
"""How soon it is noticed that the caller has left while no token comes."""


@dataclass(frozen=True)
class PartialResponse:
    """How far an answer is: its text and its tokens, how many requests wait before it, and why there is no more; of a
    finished one whether it repeats itself."""

    text: str = ""
    tokens: int = 0
    queue_position: int | None = None
    error: UserError | None = None
    repeats: bool = False


class EngineReplica:
    """What a cluster calls."""

    def __init__(self, specs: Sequence[ModelSpec], precision: str, config: EngineConfig) -> None:
        self._engine = self._build(specs, precision, config)
        threads = config.max_batch_size + config.max_beam_groups + config.max_waiting + config.max_background
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="answers")
        self._engine.start()

    async def answer(self, request: Request) -> AsyncGenerator[PartialResponse, None]:
        """The text so far, again and again; a caller who stops iterating cancels the request."""
        try:
            response = await self._submit(request)
        except UserError as error:
            yield PartialResponse(error=error)
            return
        del request  # its image is of no more use, and the answer may take minutes
        updates, ask = response.updates(HEARTBEAT_SECONDS), asyncio.get_running_loop().run_in_executor
        text = ""
        try:
            while (later := await ask(self._threads, next, updates, None)) is not None:
                text = later
                yield PartialResponse(text, response.tokens, response.queue_position())
            # the last tokens may have changed no text
            yield PartialResponse(text, response.tokens, repeats=response.repeats)
        except UserError as error:
            yield PartialResponse(error=error)
        finally:
            response.cancel()

    def status(self) -> EngineStatus:
        """See `EngineProtocol`."""
        return self._engine.status()

    def budget(self, **values: Any) -> Budget | UserError:
        """See `EngineProtocol`."""
        try:
            return self._engine.budget(**values)
        except UserError as error:
            return error

    def fitting_precisions(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `EngineProtocol`."""
        return self._engine.fitting_precisions(spec)

    def _build(self, specs: Sequence[ModelSpec], precision: str, config: EngineConfig) -> EngineProtocol:
        return ThreadedEngine(specs, precision=precision, config=config)

    async def _submit(self, request: Request) -> ResponseStream:
        """On a thread, since the image is decoded for it; a caller who leaves meanwhile cancels what comes of it."""
        submitted = self._threads.submit(self._engine.submit, request)
        try:
            return await asyncio.wrap_future(submitted)
        except asyncio.CancelledError:
            submitted.add_done_callback(_cancel)
            raise


def _cancel(submitted: Future[ResponseStream]) -> None:
    if not submitted.cancelled() and submitted.exception() is None:
        submitted.result().cancel()
