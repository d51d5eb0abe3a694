"""One engine of many, in a process of its own, perhaps on another machine.

Knows an engine and what is told of it over the wire; knows no cluster. Sentences travel as values, since what Ray
raises is a traceback.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.errors import UserError
from blip_space.inference.engine import Engine, Limits, Status
from blip_space.inference.request import Budget, Request

HEARTBEAT_SECONDS = 0.25
"""How soon a visitor's leaving is noticed while no token comes."""


@dataclass(frozen=True)
class Told:
    """How far an answer is: its text and its tokens, how many stand in line before it, and why there is no more; of a
    whole one whether it repeats itself."""

    text: str = ""
    tokens: int = 0
    place: int | None = None
    error: UserError | None = None
    repeats: bool = False


class Replica:
    """What a cluster calls."""

    def __init__(self, specs: Sequence[ModelSpec], precision: str, limits: Limits) -> None:
        self._engine = Engine(specs, precision=precision, limits=limits)
        most = limits.max_rows + limits.max_waiting + limits.max_guests
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="answers")
        self._engine.start()

    async def answer(self, request: Request) -> AsyncGenerator[Told, None]:
        """The text so far, again and again; whoever stops asking for it cancels the request."""
        try:
            answer = self._engine.submit(request)
        except UserError as error:
            yield Told(error=error)
            return
        updates, ask = answer.updates(HEARTBEAT_SECONDS), asyncio.get_running_loop().run_in_executor
        text = ""
        try:
            while (later := await ask(self._threads, next, updates, None)) is not None:
                text = later
                yield Told(text, answer.tokens, answer.place())
            yield Told(text, answer.tokens, repeats=answer.repeats)  # its last tokens may have changed no text
        except UserError as error:
            yield Told(error=error)
        finally:
            answer.cancel()

    def status(self) -> Status:
        """See `Engine`."""
        return self._engine.status()

    def budget(self, **asked: Any) -> Budget | UserError:
        """See `Engine`."""
        try:
            return self._engine.budget(**asked)
        except UserError as error:
            return error

    def fitting(self, spec: ModelSpec) -> tuple[str, ...] | None:
        """See `Engine`."""
        return self._engine.fitting(spec)
