"""Whether a server can listen on an address, before anything is started.

Depends on sockets only.
"""

from __future__ import annotations

import errno
import socket

from blip_space.errors import UserError


def check_address(host: str, port: int) -> None:
    """Raise `UserError` if this address is not available. Without this check uvicorn would log its own error first."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except PermissionError:
        raise UserError(f"Port {port} needs administrator rights. Choose one from 1024 up with --port.") from None
    except (socket.gaierror, UnicodeError):
        raise UserError(_not_an_address(host)) from None
    except OSError as error:
        is_foreign = error.errno == errno.EADDRNOTAVAIL
        raise UserError(_not_an_address(host) if is_foreign else unavailable(host, port)) from None


def _not_an_address(host: str) -> str:
    return f"{host[:80]!r} is not an address of this machine. Choose 127.0.0.1, or 0.0.0.0 for all, with --host."


def unavailable(host: str, port: int) -> str:
    """The message for a port that cannot be used."""
    return (
        f"The page cannot listen on {host}, port {port}: another program may use it. Stop that program, or choose "
        "another port with --port."
    )
