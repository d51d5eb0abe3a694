"""The end of a process that cannot end by itself: it has lost its GPU, so that another one takes its place, or a thread
of it does not stop.

Must not import torch: nothing of it works any more.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

from blip_space import settings
from blip_space.errors import DEVICE_EXIT_CODE

log = logging.getLogger(__name__)

SECONDS = 3.0
"""How long the process goes on, for the errors of its answers and the failed status to reach their clients."""


def end_process() -> None:
    """End this process with `DEVICE_EXIT_CODE` after `SECONDS`, without the handlers that would wait for a GPU; Ray,
    compose and systemd start another one."""
    time.sleep(SECONDS)
    log.error("the process ends with exit code %d, since it cannot use its GPU any more", DEVICE_EXIT_CODE)
    _flush()
    os._exit(DEVICE_EXIT_CODE)


def end_server() -> None:
    """The same for a server; on a Hugging Face Space, which would stay down, it starts itself again."""
    if settings.is_hugging_face_space():
        time.sleep(SECONDS)
        log.error("the server starts itself again, since it cannot use its GPU any more")
        _flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    end_process()


def end_after(seconds: float) -> None:
    """End this process with exit code 0 after `seconds`, unless it has ended by then: a thread may not stop in time."""

    def end() -> None:
        log.warning("the server did not stop within %.0f s, and is ended", seconds)
        _flush()
        os._exit(0)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
