"""Who sends a request: an address, and at it a session. Each thread and each event of a server has a current caller.

Apps set the caller; images, requests and batches read it where they are created. Depends on nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple


class Caller(NamedTuple):
    """The address of a caller, for which limits hold, and one of its sessions; empty if unknown."""

    address: str
    session: str


UNKNOWN = Caller("", "")
"""The caller of a command or of the library, for which no limit holds."""

current_caller: ContextVar[Caller] = ContextVar("current_caller", default=UNKNOWN)
"""The caller whose event is handled."""
