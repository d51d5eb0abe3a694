"""Limits the connections of one address, and closes those on which no request arrives.

A connection takes one of the process's few open files, and each upload on it another. uvicorn bounds neither how many
one client has nor how long the head of a request takes. Depends on uvicorn's protocols, which it extends, by their
common names; must not import uvicorn.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from blip_space.apps.http.callers import group, is_in
from blip_space.settings.proxies import Network

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MAX_SHARE = 1 / 4
"""Of the files that this process may open, for the connections of one address."""

MAX_CONNECTIONS = 1_024
DEFAULT_FILES = 1_024
HEAD_SECONDS = 20.0
"""How long the head of a request may take. uvicorn itself closes a connection without a byte for five seconds."""

SENTENCE = "There are too many connections from your address. Close some, then try again."


def max_connections() -> int:
    """The limit for one address."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else DEFAULT_FILES
    return min(MAX_CONNECTIONS, int(MAX_SHARE * files)) if files > 0 else MAX_CONNECTIONS


def limit_connections(config: Any, trusted: Sequence[Network], *, limit: int | None = None) -> None:
    """From now on, make the server of this uvicorn config close connections beyond the limits.

    A trusted proxy has no limit, since it brings everybody's requests. Without WebSockets, which no part of the page
    uses, each connection stays with its protocol.
    """
    config.http_protocol_class = _limited(config.http_protocol_class, trusted, limit or max_connections())
    config.ws_protocol_class = None


def _limited(base: Any, trusted: Sequence[Network], limit: int) -> Any:
    counts: Counter[str] = Counter()

    class LimitedProtocol(base):  # type: ignore[misc]
        """uvicorn's protocol for one connection."""

        _address: str | None = None
        _timer: asyncio.TimerHandle | None = None
        _is_refused = False

        def connection_made(self, transport: Any) -> None:
            """Count the connection; close it at once if its address has too many."""
            address = str((transport.get_extra_info("peername") or ("",))[0])
            if not is_in(address, trusted):
                if counts[group(address)] >= limit:
                    transport.write(_refusal())
                    transport.close()
                    self._is_refused = True
                    return
                self._address = group(address)
                counts[self._address] += 1
            super().connection_made(transport)
            self._await_request(None)

        def data_received(self, data: bytes) -> None:
            """Ignore what a refused client still sends."""
            if not self._is_refused:
                super().data_received(data)

        def connection_lost(self, error: Exception | None) -> None:
            """Count the connection no more."""
            if self._timer is not None:
                self._timer.cancel()
            if self._address is not None:
                counts[self._address] -= 1
                if not counts[self._address]:
                    del counts[self._address]
            if not self._is_refused:
                super().connection_lost(error)

        def _await_request(self, last: Any) -> None:
            """Look again and again whether a request runs, or another one than the `last` has arrived."""
            request = self.cycle
            if self._timer is not None and request is last and (request is None or request.response_complete):
                self.transport.close()
            else:
                self._timer = self.loop.call_later(HEAD_SECONDS, self._await_request, request)

    return LimitedProtocol


def _refusal() -> bytes:
    body = json.dumps({"detail": SENTENCE, "error": SENTENCE, "code": "busy"}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\nx-error-code: busy\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
