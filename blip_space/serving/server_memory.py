"""Keeps the memory of a server small, and its pauses short. For servers only. Must not import torch.

Python's garbage collector leaves out the objects of imported libraries, which never become garbage: a collection of all
objects stops every thread, and with torch, transformers and Gradio imported it looks at 500,000, which takes 0.3 s.
`models.interface` lets it look at all again when a model is unloaded. In a user's own program garbage of that moment
would stay.

Freed memory goes back to the system. glibc keeps what threads have freed between blocks that are still in use: 500 of
970 MB after five minutes of `python -m benchmarks.soak --clients 64 --chaos`. Each time a process has grown, it is
asked for the whole pages of that. Other C libraries are not asked.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from blip_space.serving.machine import used_bytes
from blip_space.serving.protocol import EngineProtocol

POLL_SECONDS = 0.5
RETURN_SECONDS = 5.0
GROWTH_BYTES = 32_000_000
"""By how much a process grows before its free pages are returned again."""

Trim: TypeAlias = Callable[[int], int]


def keep_small(engine: EngineProtocol) -> None:
    """In the background, wait until the engine has loaded its first model and freeze what there is then; from then on,
    return free memory."""
    threading.Thread(target=_keep_small, args=(engine,), name="memory", daemon=True).start()


def _keep_small(engine: EngineProtocol) -> None:
    while engine.status().status == "loading":
        time.sleep(POLL_SECONDS)
    gc.collect()
    gc.freeze()
    if trim := _find_trim():
        _return_freed(trim)


def _return_freed(trim: Trim) -> None:
    kept = 0
    while True:
        used = used_bytes("cpu")["memory_bytes"]
        if used > kept + GROWTH_BYTES:
            trim(0)  # without the interpreter's lock
            kept = used_bytes("cpu")["memory_bytes"]
        kept = min(kept, used)
        time.sleep(RETURN_SECONDS)


def _find_trim() -> Trim | None:
    """malloc_trim(3) of glibc; None with another C library."""
    try:
        trim: Trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return trim
