"""Whether one more request may wait: the queue is bounded, and one address never fills it.

Depends on the driver's counts only. Under the engine's lock.
"""

from __future__ import annotations

from blip_space.callers import Caller
from blip_space.engine.request import EngineConfig
from blip_space.errors import BusyError
from blip_space.serving.driver import Driver
from blip_space.serving.protocol import queue_full

MAX_ADDRESS_SHARE = 3 / 4
"""Of the queue, for the requests of one address. The rest is free for callers at other addresses."""

MANY_OF_ADDRESS = "Many requests from your address are waiting already. Wait for their answers, then ask again."


def check_queue(driver: Driver, limits: EngineConfig, caller: Caller, *, background: bool) -> None:
    """Raise `BusyError` if the queue is full, or has the share of the caller's address."""
    limit = limits.max_background if background else limits.max_waiting
    share = max(1, int(MAX_ADDRESS_SHARE * limit)) if caller.address else limit
    if driver.unfinished < share:
        return

    def refusal() -> BusyError | None:
        if (waiting := driver.waiting(background=background)) >= limit:
            return BusyError(queue_full(waiting))
        if caller.address and driver.waiting_of(caller.address, background=background) >= share:
            return BusyError(MANY_OF_ADDRESS)
        return None

    if refusal():
        driver.cancel_done()  # the engine's thread does this before its next step only
        if error := refusal():
            raise error
