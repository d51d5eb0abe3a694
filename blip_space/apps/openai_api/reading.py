"""Reads an answer on the event loop, without a thread for each.

Depends on the response of the engine only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from blip_space.serving.response import ResponseStream


async def read(response: ResponseStream, *, interval_seconds: float, heartbeat_seconds: float) -> AsyncIterator[str]:
    """Yield the text so far at each change, and again after every `heartbeat_seconds` without one.

    The first text and the end come at once, texts between them at least `interval_seconds` after the last one. Raises
    the error that ended the answer.
    """
    last = ""
    while True:
        await _wait(response, heartbeat_seconds, text=last)
        text, is_finished = response.snapshot()
        yield text
        if is_finished:
            return
        if text != last:
            last = text
            await _wait(response, interval_seconds)


async def _wait(response: ResponseStream, seconds: float, *, text: str | None = None) -> None:
    """Wait until the text is no longer `text`, or without one until the end, and at most that long."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has just been closed
            loop.call_soon_threadsafe(changed.set)

    response.call_when_changed(wake, text=text)
    timer = loop.call_later(min(seconds, response.seconds_left), changed.set)
    try:
        await changed.wait()
    finally:
        timer.cancel()
