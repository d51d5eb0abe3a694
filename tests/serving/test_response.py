"""Laws of a response stream: what its reader gets, when, and how it ends."""

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
    """Whether a reader waits for a change."""
    return bool(response._changed._waiters)  # type: ignore[attr-defined]


def test_every_change_is_yielded_as_it_comes() -> None:
    response, texts = ResponseStream(deadline=time.monotonic() + LATER), Queue[str]()

    def read() -> None:
        for text in response:
            texts.put(text)

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    for text in ("a", "a b"):
        wait_until(lambda: is_read(response))
        response.publish(text)
        assert texts.get(timeout=10) == text
    response.publish("a b c", finished=True)
    assert texts.get(timeout=10) == "a b c"
    reading.join()


def test_a_finished_response_does_not_change() -> None:
    response = ResponseStream(deadline=time.monotonic() + LATER)
    response.publish("complete", finished=True)
    response.fail(UserError("too late"))
    assert list(response) == ["complete"]


def test_after_its_deadline_a_response_fails_unless_it_is_finished() -> None:
    response, finished = ResponseStream(deadline=0.0), ResponseStream(deadline=0.0)
    assert response.done
    with pytest.raises(BusyError, match="took too long"):
        list(response)
    finished.publish("complete", finished=True)
    assert list(finished) == ["complete"]


@pytest.mark.timeout(30)
def test_a_deadline_comes_before_the_next_heartbeat() -> None:
    response = ResponseStream(deadline=time.monotonic() + 0.05)
    with pytest.raises(BusyError, match="took too long"):
        list(response.updates(heartbeat_seconds=1_000))


def test_there_is_no_heartbeat_after_the_end() -> None:
    response = ResponseStream(deadline=time.monotonic() + LATER)
    response.publish("complete")
    updates = response.updates(heartbeat_seconds=0.01)
    assert next(updates) == "complete"
    response.finish()
    assert list(updates) == []


def test_waiting_ends_when_the_response_ends() -> None:
    response = ResponseStream(deadline=time.monotonic() + LATER)

    def end() -> None:
        wait_until(lambda: is_read(response))
        response.finish()

    threading.Thread(target=end, daemon=True).start()
    assert response.wait(1_000)


def test_restarted_text_is_published_once_it_is_as_long_as_before() -> None:
    response = ResponseStream(deadline=time.monotonic() + LATER)
    updates = response.updates(heartbeat_seconds=0.0)
    texts = []
    for text in ("one two", "", "one", "one two three"):
        response.publish(text)
        texts.append(next(updates))
    assert texts == ["one two", "one two", "one two", "one two three"]
