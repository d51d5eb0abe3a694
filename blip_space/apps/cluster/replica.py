"""One replica of the engine, in its own process and perhaps on another machine.

Errors are returned as values, since Ray would add a traceback to a raised one. Must not import Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from blip_space.apps.failed_process import end_process
from blip_space.catalogue import ModelSpec
from blip_space.engine.request import GPU_BATCH_SIZE, Budget, EngineConfig, Request
from blip_space.errors import UserError
from blip_space.serving.protocol import EngineProtocol, EngineStatus
from blip_space.serving.response import ResponseStream
from blip_space.serving.threaded import ThreadedEngine

HEARTBEAT_SECONDS = 0.25
"""How soon a disconnected caller is noticed while no token is generated."""


@dataclass(frozen=True)
class PartialResponse:
    """One part of an answer: its text and number of tokens so far, how many requests wait before it, and the error that
    ended it. In the last part, `repeats` is whether the token limit cut it off in a loop, and `prompt_tokens` is the
    number of tokens of its prompt."""

    text: str = ""
    tokens: int = 0
    queue_position: int | None = None
    error: UserError | None = None
    repeats: bool = False
    prompt_tokens: int = 0


class EngineReplica:
    """The actor that Ray Serve creates for each replica: one engine."""

    def __init__(self, specs: Sequence[ModelSpec], precision: str, config: EngineConfig, device: str = "auto") -> None:
        self._device = device
        self._engine = self._build(specs, precision, config)
        limits = config.resolve(GPU_BATCH_SIZE)  # the model is loaded later
        threads = limits.max_batch_size + limits.max_beam_groups + limits.max_waiting + limits.max_background
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="answers")
        self._engine.start()

    async def answer(self, request: Request) -> AsyncGenerator[PartialResponse, None]:
        """Yield the text so far at each change and heartbeat; closing the generator cancels the request."""
        try:
            response = await self._submit(request)
        except UserError as error:
            yield PartialResponse(error=error)
            return
        del request  # frees its image; the answer may take minutes
        updates, run = response.updates(HEARTBEAT_SECONDS), asyncio.get_running_loop().run_in_executor
        text = ""
        try:
            while (update := await run(self._threads, next, updates, None)) is not None:
                text = update
                yield PartialResponse(text, response.tokens, response.queue_position())
            # the last tokens may not have changed the text
            yield PartialResponse(text, response.tokens, repeats=response.repeats, prompt_tokens=response.prompt_tokens)
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
        """An engine that ends this process when its GPU fails, so that Ray replaces it."""
        return ThreadedEngine(
            specs, precision=precision, device=self._device, config=config, on_device_lost=end_process
        )

    async def _submit(self, request: Request) -> ResponseStream:
        """Submit a request on a thread, since its image is decoded; cancel the response if the caller disconnects."""
        submitted = self._threads.submit(self._engine.submit, request)
        try:
            return await asyncio.wrap_future(submitted)
        except asyncio.CancelledError:
            submitted.add_done_callback(_cancel_response)
            raise


def _cancel_response(submitted: Future[ResponseStream]) -> None:
    if not submitted.cancelled() and submitted.exception() is None:
        submitted.result().cancel()
