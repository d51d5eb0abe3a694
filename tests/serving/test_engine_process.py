"""What the process of an engine does with messages."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace
from typing import Any

from blip_space.engine.request import Request
from blip_space.errors import BusyError
from blip_space.serving.engine_process import MAX_PREPARING, _Receiver
from blip_space.serving.process_messages import Outbox, Part, Submit
from blip_space.serving.protocol import STOPPED_WAITING, STOPPING
from tests.serving.example_requests import ask


def test_a_user_does_not_wait_while_the_images_of_a_batch_are_prepared() -> None:
    released, answered = threading.Event(), threading.Event()

    def answer(request: Request, _: Any) -> None:
        if request.background:
            released.wait(120)
        else:
            answered.set()

    receiver = _Receiver(SimpleNamespace(answer=answer), Outbox(lambda _: None))  # type: ignore[arg-type]
    for number in range(MAX_PREPARING + 1):
        receiver.receive(Submit(number, ask(background=True), 60.0))
    receiver.receive(Submit(MAX_PREPARING + 1, ask(), 60.0))
    try:
        assert answered.wait(60)
    finally:
        released.set()


def test_a_request_that_the_stop_finds_in_preparation_was_accepted_before() -> None:
    def answer(*_: Any) -> None:
        raise BusyError(STOPPING, code="stopping")

    sent = queue.Queue[Any]()
    outbox = Outbox(sent.put)
    _Receiver(SimpleNamespace(answer=answer), outbox).receive(Submit(1, ask(), 60.0))  # type: ignore[arg-type]
    part = sent.get(timeout=60)[0]
    outbox.close()
    assert isinstance(part, Part)
    assert (str(part.error), part.error and part.error.code) == (STOPPED_WAITING, "stopping")
