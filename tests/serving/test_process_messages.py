"""Messages of the engine's process: the answers of a step travel together, and no reader delays a step."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from queue import Queue

import pytest

from blip_space.errors import BusyError, UserError
from blip_space.serving import process_messages
from blip_space.serving.engine_process import SentResponse
from blip_space.serving.process_messages import Outbox, Part, Reply, Sent

FAILED = UserError("It failed.")


class Reader:
    """Takes the lists of an outbox; while it is `blocked`, as by a full pipe, the outbox waits."""

    def __init__(self) -> None:
        self.lists: Queue[Sequence[Sent]] = Queue()
        self.may_read = threading.Event()
        self.may_read.set()
        self.is_blocked = threading.Event()

    def __call__(self, messages: Sequence[Sent]) -> None:
        self.is_blocked.set()
        self.may_read.wait()
        self.is_blocked.clear()
        self.lists.put(messages)

    def next(self) -> list[Sent]:
        return list(self.lists.get(timeout=20))


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def outbox(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    """An outbox that sends what can wait only when it is closed."""
    monkeypatch.setattr(process_messages, "SEND_SECONDS", 10_000.0)
    outbox = Outbox(reader, clock=lambda: 0.0)
    yield outbox
    reader.may_read.set()
    outbox.close()


def block(reader: Reader, outbox: Outbox) -> None:
    """Let the outbox wait for its reader, which has one message so far."""
    reader.may_read.clear()
    outbox.post(Reply(0))
    assert reader.is_blocked.wait(20)


def test_messages_of_one_step_travel_in_one_list(reader: Reader, outbox: Outbox) -> None:
    block(reader, outbox)
    parts = [Part(number, "a") for number in range(64)]
    for part in parts:
        outbox.post(part)
    reader.may_read.set()
    assert reader.next() == [Reply(0)]
    assert reader.next() == parts


def test_of_the_texts_in_the_middle_only_the_newest_is_sent(reader: Reader, outbox: Outbox) -> None:
    for text in ("a", "a b", "a b c"):
        outbox.post_later(Part(1, text))
    outbox.post_later(Part(2, "x"))
    outbox.post(Reply(0))
    assert reader.next() == [Reply(0)], "they wait"
    outbox.close()
    assert reader.next() == [Part(1, "a b c"), Part(2, "x")]


def test_texts_in_the_middle_are_sent_after_a_moment(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_messages, "SEND_SECONDS", 0.001)
    outbox = Outbox(reader)
    for text in ("a", "a b"):
        outbox.post_later(Part(1, text))
        while reader.next() != [Part(1, text)]:
            pass
    outbox.close()


def test_an_earlier_text_never_follows_the_end(reader: Reader, outbox: Outbox) -> None:
    outbox.post_later(Part(1, "a"))
    outbox.post(Part(1, "a b", finished=True))
    assert reader.next() == [Part(1, "a b", finished=True)]
    outbox.close()
    assert reader.lists.empty()


def test_a_reader_that_has_ended_ends_the_outbox() -> None:
    def fail(_: object) -> None:
        raise BrokenPipeError

    outbox = Outbox(fail)
    outbox.post(Reply(0))
    outbox.close()
    assert not outbox._thread.is_alive()
    outbox.post(Reply(1))


def sent(outbox: Outbox) -> SentResponse:
    return SentResponse(1, outbox, deadline=time.monotonic() + 60)


def test_the_first_text_and_the_end_of_an_answer_are_sent_at_once(reader: Reader, outbox: Outbox) -> None:
    response = sent(outbox)
    for tokens, text in enumerate(("a", "a b", "a b c"), 1):
        response.tokens = tokens
        response.publish(text)
    assert reader.next() == [Part(1, "a", 1)]
    response.repeats = True
    response.publish("a b c d", finished=True)
    assert reader.next() == [Part(1, "a b c d", 3, finished=True, repeats=True)]
    response.fail(FAILED)
    response.publish("late")
    outbox.post(Reply(0))
    assert reader.next() == [Reply(0)], "nothing follows the end"


def test_an_error_is_sent_once_and_a_cancelled_answer_sends_nothing(reader: Reader, outbox: Outbox) -> None:
    response = sent(outbox)
    response.fail(FAILED)
    assert reader.next() == [Part(1, error=FAILED)]
    response.fail(BusyError("Stopped."))
    cancelled = sent(outbox)
    cancelled.cancel()
    cancelled.publish("a")
    cancelled.fail(FAILED)
    outbox.post(Reply(0))
    assert reader.next() == [Reply(0)]
