"""Laws of an answer on its way: what its reader sees of it, when, and how it ends."""

from __future__ import annotations

import threading
import time
from queue import Queue

import pytest

from blip_space.errors import BusyError, UserError
from blip_space.serving.response import ResponseStream
from tests.serving.fakes import wait_until

LATER = 1e9


def is_read(response: ResponseStream) -> bool:
    """Whether a reader waits for news."""
    return bool(response._changed._waiters)  # type: ignore[attr-defined]


def test_every_change_is_shown_as_it_comes() -> None:
    response, shown = ResponseStream(deadline=time.monotonic() + LATER), Queue[str]()

    def read() -> None:
        for text in response:
            shown.put(text)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    for text in ("a", "a b"):
        wait_until(lambda: is_read(response))
        response.publish(text)
        assert shown.get(timeout=10) == text
    response.publish("a b c", finished=True)
    assert shown.get(timeout=10) == "a b c"
    reading.join()


def test_what_ended_stays_as_it_is() -> None:
    response = ResponseStream(deadline=time.monotonic() + LATER)
    response.publish("whole", finished=True)
    response.fail(UserError("too late"))
    assert list(response) == ["whole"]


def test_after_its_deadline_nobody_waits_for_it_but_a_whole_answer_is_read() -> None:
    response, whole = ResponseStream(deadline=0.0), ResponseStream(deadline=0.0)
    assert response.done
    with pytest.raises(BusyError, match="took too long"):
        list(response)
    whole.publish("whole", finished=True)
    assert list(whole) == ["whole"]


@pytest.mark.timeout(30)
def test_a_deadline_comes_before_the_next_heartbeat() -> None:
    response = ResponseStream(deadline=time.monotonic() + 0.05)
    with pytest.raises(BusyError, match="took too long"):
        list(response.updates(heartbeat_seconds=1_000))


def test_there_is_no_heartbeat_after_the_end() -> None:
    response = ResponseStream(deadline=time.monotonic() + LATER)
    response.publish("whole")
    updates = response.updates(heartbeat_seconds=0.01)
    assert next(updates) == "whole"
    response.finish()
    assert list(updates) == []


def test_waiting_ends_with_the_answer() -> None:
    response = ResponseStream(deadline=time.monotonic() + LATER)

    def end() -> None:
        wait_until(lambda: is_read(response))
        response.finish()

    threading.Thread(target=end, daemon=True).start()
    assert response.wait(1_000)
