"""For whom the requests of a caller count: for its key, or without keys for its address.

Depends on Starlette and callers' addresses only.
"""

from __future__ import annotations

import hashlib

from starlette.types import Scope

from blip_space.apps.http.callers import caller_of


def client_of(scope: Scope) -> str:
    """The name that the requests of this one's sender count for; empty if unknown."""
    named: str = scope.get("state", {}).get("key", "")
    return named or caller_of(scope).address


def with_key(scope: Scope, key: str) -> Scope:
    """The request, to count for a key, whose name does not contain it."""
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return {**scope, "state": {**scope.get("state", {}), "key": f"key {name}"}}
