"""Settings of a server behind a proxy: the path below which it is served, and which proxies name its callers.

Depends on values and errors only.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

from blip_space.errors import UserError, quote
from blip_space.settings.libraries import is_hugging_face_space
from blip_space.settings.values import Value

Network = IPv4Network | IPv6Network

ROOT_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")

PRIVATE = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,::1/128,fc00::/7"
"""The networks of a host's own proxies, such as those in front of a Hugging Face Space."""


def parse_root_path(value: Value | None) -> str:
    """The path without a final slash. Raises `UserError` for anything else."""
    path = value.text.rstrip("/") if value else ""
    if value and path and not ROOT_PATH.fullmatch(path):
        raise UserError(f"{value.origin} is {quote(value.text)}; it must be a path such as /blip, without an address.")
    return path


def parse_trusted_proxies(value: Value | None) -> tuple[Network, ...]:
    """The networks in a list with commas of addresses and networks; `private` is all private ones. Without a value
    none, but the private ones on a Space, which is always behind such proxies. Raises `UserError`."""
    value = value or Value(PRIVATE if is_hugging_face_space() else "", "")
    names = [name for part in value.text.replace("private", PRIVATE).split(",") if (name := part.strip())]
    networks = []
    for name in names:
        try:
            networks.append(ip_network(name, strict=False))
        except ValueError:
            raise UserError(
                f"{value.origin} has {quote(name)}, which is neither an address such as 10.0.0.2 nor a network such "
                "as 10.0.0.0/8, nor private."
            ) from None
    return tuple(networks)
