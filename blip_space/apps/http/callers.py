"""Who sends a request: an address, and at it a session. The address is a proxy's caller only if that proxy is trusted.

Anybody can write `X-Forwarded-For`, so it counts only from the addresses in `Settings.trusted_proxies`. Depends on
Starlette and addresses only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from blip_space.callers import Caller
from blip_space.settings.proxies import Network

log = logging.getLogger(__name__)

IPV6_PREFIX = 64
"""A network of this size is one caller, since a household has at least that many IPv6 addresses."""

MAX_HOPS = 20
"""How many addresses of `X-Forwarded-For` are read, from its end, which the nearest proxy has written."""


def caller_of(scope: Scope) -> Caller:
    """Who sends this request: behind `CallerAddresses` its own address, and the session in its query, if any."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    client = scope.get("client") or ("", 0)
    return Caller(group(client[0]), query.get("session_hash", [""])[0])


def group(address: str) -> str:
    """The address, or for IPv6 the network, whose requests are those of one caller."""
    parsed = _parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, IPV6_PREFIX), strict=False))
    return address if parsed is None else str(parsed)


def is_in(address: str, networks: Iterable[Network]) -> bool:
    """Whether the address is in one of the networks."""
    parsed = _parse_address(address)
    return parsed is not None and any(parsed in network for network in networks)


class CallerAddresses:
    """ASGI middleware: sets `client` of each request to the address of its caller."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app, self._trusted = app, trusted
        self._has_warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, behind a trusted proxy with the address and the scheme that it reports."""
        if scope["type"] in ("http", "websocket") and scope.get("client"):
            forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            peer = scope["client"][0]
            if forwarded and not is_in(peer, self._trusted):
                self._warn(peer)
            elif forwarded:
                addresses = b",".join(forwarded).decode("latin-1").split(",")
                scope = {**scope, "client": (self._first_untrusted(peer, addresses), 0)}
        await self._app(scope, receive, send)

    def _first_untrusted(self, peer: str, addresses: Iterable[str]) -> str:
        """Each proxy adds the address that it sees, so the last one that is no trusted proxy's is the caller's."""
        for text in list(addresses)[: -MAX_HOPS - 1 : -1]:
            parsed = _parse_address(text.strip())
            if parsed is None:
                break
            peer = str(parsed)
            if not is_in(peer, self._trusted):
                break
        return peer

    def _warn(self, peer: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "%s sends X-Forwarded-For, but is not a trusted proxy: its callers share the limits of one. If it is "
                "your proxy, start the server with --trusted-proxies %s.",
                *(peer, peer),
            )


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, perhaps with a port; None if it is none. IPv4 in the form of IPv6 is IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
