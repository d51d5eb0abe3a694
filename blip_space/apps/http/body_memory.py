"""Limits the memory that bodies with images take together, and of it what one address takes.

A body of 30 MB is small beside the memory of a server, many at once are not. One that does not fit waits, and is
refused after a while. Everything here runs on the event loop. Depends on Starlette only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from starlette.types import Scope

MAX_TOTAL_BYTES = 240_000_000
MAX_SHARE = 1 / 2
"""Of all, for one address."""

WAIT_SECONDS = 10.0
"""How long a body waits for memory."""

RELEASE = "blip_space.release_body"
"""The name, in an ASGI scope, of the function to call once neither the body nor its images are in memory."""


class BodyMemory:
    """The memory of all bodies of one server."""

    def __init__(self) -> None:
        self._bytes: Counter[str] = Counter()
        self._waiting: list[asyncio.Future[None]] = []

    async def reserve(self, address: str, size: int) -> Callable[[], None]:
        """Wait until there is memory for `size` bytes, and return the function that frees it; more calls of that do
        nothing. Raises `TimeoutError` if there is none in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_SECONDS
        while not self._fits(address, size):
            changed = loop.create_future()
            self._waiting.append(changed)
            try:
                await asyncio.wait_for(changed, deadline - loop.time())
            except TimeoutError:  # another class before Python 3.11
                raise TimeoutError from None
            finally:
                self._waiting.remove(changed)
        self._bytes[address] += size
        is_reserved = True

        def free() -> None:
            nonlocal is_reserved
            if is_reserved:
                is_reserved = False
                self._free(address, size)

        return free

    def _fits(self, address: str, size: int) -> bool:
        own, total = self._bytes[address] + size, self._bytes.total() + size
        return total <= MAX_TOTAL_BYTES and own <= MAX_SHARE * MAX_TOTAL_BYTES

    def _free(self, address: str, size: int) -> None:
        self._bytes[address] -= size
        if not self._bytes[address]:
            del self._bytes[address]
        for changed in self._waiting:
            if not changed.done():
                changed.set_result(None)


def release_body(scope: Scope) -> None:
    """Free the memory of this request's body, which is no longer needed."""
    if release := scope.get(RELEASE):
        release()
