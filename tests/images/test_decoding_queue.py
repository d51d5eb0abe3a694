"""Laws of the queue of uploaded images: small ones never wait for large ones, nor a caller for another's many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from threading import Event, Thread

import pytest

from blip_space.callers import UNKNOWN, Caller
from blip_space.errors import BusyError
from blip_space.images.decoding_queue import SLOW_SECONDS, DecodingQueue

SMALL, LARGE = 90_000_000, 500_000_000


class Images:
    """Images in threads of their own, each admitted until it is ended; `running` are their names, in order."""

    def __init__(self, stack: ExitStack) -> None:
        self.now = 0.0
        self.queue = DecodingQueue(1, clock=lambda: self.now)
        self.running: list[str] = []
        self._ends: dict[str, tuple[Event, Thread]] = {}
        stack.callback(self.end_all)

    def add(self, name: str, size: int = SMALL, *, caller: Caller = UNKNOWN) -> None:
        """Ask for the turn of an image, and return once it is admitted or waits."""
        admitted, ended = Event(), Event()

        def decode() -> None:
            with self.queue.admit(caller, size, seconds=10):
                self.running.append(name)
                admitted.set()
                ended.wait(10)
                self.running.remove(name)

        waiting = self.queue.waiting
        thread = Thread(target=decode)
        self._ends[name] = ended, thread
        thread.start()
        while not (admitted.is_set() or self.queue.waiting > waiting):
            pass

    def end(self, name: str) -> None:
        """End an image, running or not."""
        ended, thread = self._ends.pop(name)
        ended.set()
        if name in self.running:
            thread.join(10)

    def end_all(self) -> None:
        """End every image."""
        for name in list(self._ends):
            self.end(name)

    def wait_for(self, *names: str) -> None:
        """Wait until exactly these images are running."""
        for _ in range(1_000):
            if sorted(self.running) == sorted(names):
                return
            Event().wait(0.01)
        pytest.fail(f"{self.running} are running, not {names}")


@pytest.fixture
def images() -> Iterator[Images]:
    with ExitStack() as stack:
        yield Images(stack)


def test_a_small_image_runs_beside_a_large_one(images: Images) -> None:
    images.add("large", LARGE)
    images.add("another large", LARGE)
    images.add("small")
    assert images.running == ["large", "small"]
    images.end("large")
    images.wait_for("small", "another large")


def test_a_small_image_runs_beside_one_that_turns_out_slow(images: Images) -> None:
    images.add("slow")
    images.add("small")
    assert images.running == ["slow"]
    images.now += SLOW_SECONDS
    images.wait_for("slow", "small")


def test_small_images_together_take_bounded_memory(images: Images) -> None:
    for name in ("first", "second", "third"):
        images.add(name)
        images.now += SLOW_SECONDS
    images.wait_for("first", "second")
    images.end("first")
    images.wait_for("second", "third")


def test_one_image_of_a_caller_is_decoded_at_a_time(images: Images) -> None:
    images.add("large", LARGE, caller=Caller("127.0.0.2", "one"))
    images.add("small", caller=Caller("127.0.0.2", "one"))
    images.add("of another session", caller=Caller("127.0.0.2", "two"))
    assert images.running == ["large", "of another session"]
    images.end("large")
    images.end("of another session")
    images.wait_for("small")


def test_the_images_of_one_address_do_not_take_the_turn_of_another(images: Images) -> None:
    for number in range(6):
        images.add(f"greedy {number}", caller=Caller("127.0.0.2", str(number)))
    images.add("quiet", caller=Caller("127.0.0.3", "one"))
    images.end("greedy 0")
    images.wait_for("quiet")
    images.end("quiet")
    images.wait_for("greedy 1")


def test_one_address_never_has_every_process(images: Images) -> None:
    for number in range(images.queue.max_running):
        images.add(f"greedy {number}", 1, caller=Caller("127.0.0.2", str(number)))
        images.now += SLOW_SECONDS
    images.add("quiet", 1, caller=Caller("127.0.0.3", "one"))
    images.wait_for(*[f"greedy {number}" for number in range(images.queue.max_running - 1)], "quiet")


def test_an_image_waits_for_a_limited_time(images: Images) -> None:
    images.add("large", LARGE)
    with pytest.raises(BusyError, match="many images are being decoded"), images.queue.admit(UNKNOWN, LARGE, seconds=0):
        pytest.fail("it was admitted")
    assert images.queue.waiting == 0
