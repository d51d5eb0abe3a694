"""Limits how many requests a key or an address sends in a minute: those that start something, not the page's files.

Depends on Starlette and a clock only.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from blip_space.apps.http.clients import client_of
from blip_space.apps.http.refusals import Refusal, route_path

COUNTED = (
    "/gradio_api/queue/join",
    "/gradio_api/call/",
    "/gradio_api/run/",
    "/gradio_api/api/",
    "/gradio_api/upload",
    "/v1/",
    "/mcp",
)
"""The beginnings of the routes whose POST requests count."""

WINDOW_SECONDS = 60.0
MAX_CLIENTS = 10_000
"""Beyond that many, those without a request in the last minute are forgotten."""

TOO_MANY = "You have sent {} requests in a minute, the most that this server takes. Try again in {} s."


class RateLimits:
    """ASGI middleware: refuses more than `per_minute` requests of one client within any minute."""

    def __init__(self, app: ASGIApp, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._per_minute, self._clock = app, per_minute, clock
        self._times: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless there were too many before it."""
        is_counted = scope["type"] == "http" and scope["method"] == "POST" and route_path(scope).startswith(COUNTED)
        seconds = self._seconds_to_wait(client_of(scope)) if is_counted else 0
        if seconds:
            sentence = TOO_MANY.format(self._per_minute, seconds)
            refusal = Refusal(429, "too_many_requests", sentence, {"Retry-After": str(seconds)})
            await refusal.send(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _seconds_to_wait(self, client: str) -> int:
        """Count a request, or return in how many seconds there may be another one."""
        now = self._clock()
        if len(self._times) >= MAX_CLIENTS and client not in self._times:
            self._times = {name: times for name, times in self._times.items() if times[-1] > now - WINDOW_SECONDS}
        times = self._times.setdefault(client, deque())
        while times and times[0] <= now - WINDOW_SECONDS:
            times.popleft()
        if len(times) >= self._per_minute:
            return math.ceil(times[0] + WINDOW_SECONDS - now) or 1
        times.append(now)
        return 0
