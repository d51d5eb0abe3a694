"""One answer of a remote model: its tries, its text as it arrives, and its end. Runs on the engine's event loop.

Depends on a connection and a response; must not import openai or know a queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from blip_space.callers import UNKNOWN, Caller
from blip_space.engine.answer_check import EMPTY_ANSWER, is_blank, is_cut_off_in_loop
from blip_space.engine.detokenizer import VisibleText, visible_text
from blip_space.engine.output import ANSWER_FAILED
from blip_space.errors import BusyError, EmptyAnswerError, RemoteError, UserError
from blip_space.options import GenerationOptions
from blip_space.serving.metrics import Metrics, MetricsSnapshot
from blip_space.serving.remote.attempts import AttemptError, seconds_to_retry
from blip_space.serving.remote.connection import Connection
from blip_space.serving.remote.messages import Message
from blip_space.serving.response import TOOK_TOO_LONG, ResponseStream

log = logging.getLogger(__name__)

WITHHELD = "The server of this model withheld its answer. Ask about something else."


@dataclass(eq=False)
class RemoteTask:
    """A request that waits or runs, until its `deadline`, a time of `time.monotonic()`. `counted_tokens` are those that
    the metrics have; until the server says how many tokens there are, each part of the answer counts as one."""

    messages: list[Message]
    options: GenerationOptions
    response: ResponseStream
    deadline: float
    caller: Caller = UNKNOWN
    background: bool = False
    counted_tokens: int = 0
    arrived_at: float = field(default_factory=time.monotonic)
    running: asyncio.Task[None] | None = None


class Generation:
    """Generates answers by one connection, and keeps the metrics."""

    def __init__(self, connection: Connection, set_error: Callable[[str], object]) -> None:
        """`set_error` is called with why the server cannot be used, and with an empty string after each answer."""
        self._connection, self._set_error = connection, set_error
        self._metrics = Metrics()
        self._retries = 0

    def snapshot(self) -> MetricsSnapshot:
        """The metrics so far; `restarts` are the requests that were sent again."""
        return self._metrics.snapshot(image_feature_hits=0, kv_prefix_hits=0, restarts=self._retries)

    async def run(self, task: RemoteTask) -> None:
        """Answer a request; whatever happens, its response ends."""
        try:
            if not task.response.done:
                await asyncio.wait_for(self._try_repeatedly(task), max(0.0, task.deadline - time.monotonic()))
        except UserError as error:
            task.response.fail(error)
        except TimeoutError:
            task.response.fail(BusyError(TOOK_TOO_LONG, code="timed_out"))
        except Exception:
            log.exception("a remote answer failed")
            task.response.fail(UserError(ANSWER_FAILED, code="internal_error"))

    async def _try_repeatedly(self, task: RemoteTask) -> None:
        tries = 0
        while True:
            tries += 1
            try:
                await self._try(task)
                return
            except AttemptError as error:
                if error.code == "remote_unavailable":
                    self._set_error(error.sentence)
                wait = seconds_to_retry(error, tries, background=task.background)
                if wait is None or (task.response.first_text_at and not task.background):
                    error.raise_for_user()
            self._retries += 1
            await asyncio.sleep(wait)

    async def _try(self, task: RemoteTask) -> None:
        text, reason, tokens = "", "", 0
        async with aclosing(self._connection.stream(task.messages, task.options)) as deltas:
            async for delta in deltas:
                text, reason = text + delta.text, delta.finish_reason or reason
                tokens = delta.tokens if delta.tokens is not None else tokens + bool(delta.text)
                task.response.prompt_tokens = delta.prompt_tokens or task.response.prompt_tokens
                if delta.text:
                    self._count(task, tokens)
                    visible = visible_text(text, task.options.stops)
                    if visible.stopped:
                        break
                    if task.options.quality == "stream":
                        task.response.publish(visible.text)
        self._set_error("")
        self._finish(task, visible_text(text, task.options.stops, finished=True), reason, tokens)

    def _finish(self, task: RemoteTask, visible: VisibleText, reason: str, tokens: int) -> None:
        text = visible.text
        if is_blank(text) and not visible.stopped:
            is_withheld = reason == "content_filter"
            raise RemoteError(WITHHELD) if is_withheld else EmptyAnswerError(EMPTY_ANSWER)
        self._count(task, tokens)
        words = [hash(word) for word in text.split()]
        task.response.repeats = is_cut_off_in_loop(words, reached_limit=reason == "length")
        task.response.publish(text, finished=True)

    def _count(self, task: RemoteTask, tokens: int) -> None:
        seconds = [] if task.counted_tokens else [time.monotonic() - task.arrived_at]
        self._metrics.add(max(0, tokens - task.counted_tokens), seconds)
        task.counted_tokens = max(task.counted_tokens, tokens)
        task.response.tokens = tokens
