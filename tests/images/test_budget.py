"""Laws of the decoding budget: large reservations wait for each other, and small ones may overtake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event, Thread

import pytest

from blip_space.images import (
    budget,
)
from blip_space.images.budget import DecodingBudget


class Reservations:
    """Reservations, each in a thread of its own, that are held until they are stopped."""

    def __init__(self, stack: ExitStack, decoding_budget: DecodingBudget) -> None:
        self._budget = decoding_budget
        self._running: list[tuple[Event, Thread]] = []
        self.granted: list[int] = []
        stack.callback(self.stop_all)

    def add(self, size: int) -> Callable[[], None]:
        """Reserve `size` bytes; the function that is returned releases them."""
        granted, released = Event(), Event()

        def hold() -> None:
            with self._budget.reserve(size):
                self.granted.append(size)
                granted.set()
                released.wait(10)

        before = self._budget.waiting
        thread = Thread(target=hold)
        self._running.append((released, thread))
        thread.start()
        while not (granted.is_set() or self._budget.waiting > before):
            pass

        def stop() -> None:
            released.set()
            thread.join(10)

        return stop

    def stop_all(self) -> None:
        for released, _ in self._running:
            released.set()
        for _, thread in self._running:
            thread.join(10)


@pytest.fixture
def decoding_budget() -> DecodingBudget:
    return DecodingBudget(100)


@pytest.fixture
def reservations(decoding_budget: DecodingBudget) -> Iterator[Reservations]:
    with ExitStack() as stack:
        yield Reservations(stack, decoding_budget)
    assert (decoding_budget.reserved, decoding_budget.waiting) == (0, 0)


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        pass


def test_a_reservation_that_does_not_fit_waits_and_smaller_ones_overtake_it(
    decoding_budget: DecodingBudget, reservations: Reservations
) -> None:
    stop_first = reservations.add(80)
    reservations.add(80)
    reservations.add(15)
    reservations.add(15)
    assert (reservations.granted, decoding_budget.reserved, decoding_budget.waiting) == ([80, 15], 95, 2)
    stop_first()
    wait_until(lambda: len(reservations.granted) == 3)
    assert (reservations.granted, decoding_budget.reserved, decoding_budget.waiting) == ([80, 15, 80], 95, 1)


def test_a_reservation_larger_than_the_budget_is_granted_alone(
    decoding_budget: DecodingBudget, reservations: Reservations
) -> None:
    stop_small = reservations.add(1)
    reservations.add(150)
    assert (reservations.granted, decoding_budget.waiting) == ([1], 1)
    stop_small()
    wait_until(lambda: len(reservations.granted) == 2)
    reservations.add(1)
    assert (reservations.granted, decoding_budget.waiting) == ([1, 150], 1)


def test_a_large_reservation_is_overtaken_a_limited_number_of_times(
    decoding_budget: DecodingBudget, reservations: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_OVERTAKEN", 3)
    stop_first = reservations.add(50)
    reservations.add(80)
    stops = [reservations.add(1) for _ in range(5)]
    assert (reservations.granted, decoding_budget.waiting) == ([50, 1, 1, 1], 3)
    for stop in [*stops[:3], stop_first]:
        stop()
    wait_until(lambda: len(reservations.granted) == 7)
    assert (sorted(reservations.granted[4:]), decoding_budget.waiting) == ([1, 1, 80], 0)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_reservation_is_released_after_any_exception(
    decoding_budget: DecodingBudget, error: type[BaseException]
) -> None:
    with pytest.raises(error), decoding_budget.reserve(100):
        raise error
    assert decoding_budget.reserved == 0


def test_an_interrupted_wait_reserves_nothing(
    decoding_budget: DecodingBudget, reservations: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes would never be released."""

    def interrupt(_: Callable[[], bool]) -> None:
        raise KeyboardInterrupt

    stop_first = reservations.add(80)
    monkeypatch.setattr(decoding_budget._changed, "wait_for", interrupt)
    with pytest.raises(KeyboardInterrupt), decoding_budget.reserve(90):
        pytest.fail("it was granted")
    assert decoding_budget.waiting == 0
    stop_first()
    assert decoding_budget.reserved == 0
