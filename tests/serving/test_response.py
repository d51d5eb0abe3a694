"""Laws of a response stream: what its reader gets, when, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from blip_space.errors import BusyError, UserError
from blip_space.serving import response as responses
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


def test_a_cancel_is_reported_once_and_not_after_the_end() -> None:
    cancelled = list[str]()
    response, finished = (ResponseStream(deadline=time.monotonic() + 60) for _ in range(2))
    response.on_cancel = lambda: cancelled.append("response")
    finished.on_cancel = lambda: cancelled.append("finished")
    updates = response.updates(heartbeat_seconds=0.001)
    next(updates)
    updates.close()  # type: ignore[attr-defined]
    response.cancel()
    finished.publish("a", finished=True)
    assert list(finished) == ["a"]
    assert cancelled == ["response"]


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


class Clock:
    """Time that passes only while a reader waits; what the engine does then is planned as (second, action)."""

    def __init__(self, response: ResponseStream, *plan: tuple[float, Callable[[], object]]) -> None:
        self.now = 0.0
        self._response = response
        self._plan = sorted(plan, key=lambda item: item[0])
        for name in ("_changed", "_ended"):
            setattr(response, name, Waiting(self, wakes_at_the_end=name == "_ended"))

    def wait(self, seconds: float | None, *, wakes_at_the_end: bool) -> None:
        """Let this many seconds pass, or fewer up to an action that notifies the reader."""
        end = float("inf") if seconds is None else self.now + seconds
        while self._plan and self._plan[0][0] <= end:
            self.now, action = self._plan.pop(0)
            action()
            if self._response._finished or not wakes_at_the_end:
                return
        self.now = end


class Waiting:
    """A condition on that clock, for one thread."""

    def __init__(self, clock: Clock, *, wakes_at_the_end: bool) -> None:
        self._clock, self._wakes_at_the_end = clock, wakes_at_the_end

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
    def notify_all(self) -> None: ...

    def wait(self, seconds: float | None = None) -> None:
        self._clock.wait(seconds, wakes_at_the_end=self._wakes_at_the_end)


def paced(monkeypatch: pytest.MonkeyPatch, *plan: tuple[float, str | UserError], **how: Any) -> list[tuple[float, str]]:
    """When a reader gets which text, at most one a second; a text that ends in a full stop is the last."""
    response = ResponseStream(deadline=100.0)

    def act(what: str | UserError) -> None:
        if isinstance(what, UserError):
            response.fail(what)
        else:
            response.publish(what, finished=what.endswith("."))

    clock = Clock(response, *((second, partial(act, what)) for second, what in plan))
    monkeypatch.setattr(responses, "time", SimpleNamespace(monotonic=lambda: clock.now))
    read = list[tuple[float, str]]()
    try:
        for text in response.updates(interval_seconds=1.0, **how):
            read.append((clock.now, text))
    except UserError as error:
        read.append((clock.now, str(error)))
    return read


def test_updates_are_paced_and_the_first_and_the_last_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [(5.0, "a"), (5.2, "a b"), (5.4, "a b c"), (6.1, "a b c d"), (9.0, "a b c d e"), (9.3, "a b c d e f.")]
    assert paced(monkeypatch, *plan) == [
        (5.0, "a"),
        (6.0, "a b c"),
        (7.0, "a b c d"),
        (9.0, "a b c d e"),
        (9.3, "a b c d e f."),
    ]


def test_an_error_is_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paced(monkeypatch, (5.0, "a"), (5.5, UserError("broken"))) == [(5.0, "a"), (5.5, "broken")]


def test_a_deadline_passes_while_an_update_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    (*_, last) = paced(monkeypatch, (99.5, "a"), (99.6, "a b"))
    assert last == (100.0, responses.TOOK_TOO_LONG)


def test_heartbeats_before_the_first_token_do_not_delay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read = paced(monkeypatch, (0.7, "a"), (0.8, "a b."), heartbeat_seconds=0.5)
    assert read == [(0.5, ""), (0.7, "a"), (0.8, "a b.")]


def test_a_reader_that_does_not_block_is_called_once_for_each_wait() -> None:
    response, calls = ResponseStream(deadline=time.monotonic() + LATER), list[str]()
    response.call_when_changed(lambda: calls.append("changed"), text="")
    response.publish("")
    assert calls == []
    response.publish("a")
    response.publish("a b")
    assert calls == ["changed"]
    assert response.snapshot() == ("a b", False)
    response.call_when_changed(lambda: calls.append("at once"), text="a")
    assert calls[1:] == ["at once"]
    response.call_when_changed(lambda: calls.append("replaced"), text="a b")
    response.call_when_changed(lambda: calls.append("ended"))
    response.publish("a b c")
    assert calls[2:] == []
    response.publish("a b c d", finished=True)
    assert calls[2:] == ["ended"]
    response.call_when_changed(lambda: calls.append("late"))
    assert calls[3:] == ["late"]
    assert response.snapshot() == ("a b c d", True)


def test_a_snapshot_raises_what_ended_the_answer() -> None:
    failed, late = ResponseStream(deadline=time.monotonic() + LATER), ResponseStream(deadline=time.monotonic() - 1)
    calls = list[str]()
    failed.call_when_changed(lambda: calls.append("failed"), text="")
    failed.fail(UserError("no luck"))
    assert calls == ["failed"]
    with pytest.raises(UserError, match="no luck"):
        failed.snapshot()
    with pytest.raises(BusyError, match="took too long"):
        late.snapshot()
