"""Laws of the waiting line, without a model: order, bounds, turns and whose model comes next."""

from __future__ import annotations

import random
from dataclasses import dataclass

from blip_space.inference.scheduler import Scheduler


@dataclass(eq=False)
class Guest:
    """Somebody who waits."""

    name: str
    model: str = "one"
    length: int = 10
    over: bool = False
    taken: int = 0
    searches: bool = False
    guest: bool = False


def scheduler(**limits: int) -> Scheduler[Guest]:
    return Scheduler(**{"most_rows": 3, "most_waiting": 9, "most_guests": 9, "most_positions": 30, "turn_tokens": 8} | limits)


def admitted(line: Scheduler[Guest]) -> str:
    return "".join(guest.name for guest in line.admit(lambda guest: guest.length))


def lined_up(line: Scheduler[Guest], *guests: Guest) -> None:
    for guest in guests:
        line.put(guest)


def test_first_come_first_served_while_there_are_places() -> None:
    line = scheduler()
    lined_up(line, *(Guest(name) for name in "abcde"))
    assert admitted(line) == "abc"
    assert admitted(line) == ""
    line.leave(line.running[1])
    assert admitted(line) == "d"
    assert [guest.name for guest in line.running] == ["a", "c", "d"]


def test_newcomers_of_one_step_are_bounded_but_one_long_prompt_is_read() -> None:
    line = scheduler()
    lined_up(line, Guest("a", length=90), Guest("b"), Guest("c", length=25))
    assert [admitted(line) for _ in range(4)] == ["a", "b", "c", ""]


def test_another_model_waits_until_all_rows_are_done_and_is_not_overtaken() -> None:
    line = scheduler()
    lined_up(line, Guest("a"), Guest("b", model="two"), Guest("c"))
    assert (admitted(line), line.next_model()) == ("a", "one")
    line.leave(line.running[0])
    assert (line.next_model(), admitted(line)) == ("two", "b")
    line.leave(line.running[0])
    assert (line.next_model(), admitted(line)) == ("one", "c")
    assert scheduler().next_model() is None


def test_who_left_is_forgotten_wherever_he_was() -> None:
    line = scheduler(most_rows=1)
    gone, waiting, last = Guest("a"), Guest("b"), Guest("c")
    lined_up(line, gone, waiting, last)
    assert admitted(line) == "a"
    gone.over = waiting.over = True
    assert line.sweep() == [gone]
    assert (line.ahead(last), line.ahead(waiting)) == (0, None)


def test_a_long_answer_gives_its_place_away_after_its_turn() -> None:
    line = scheduler(most_rows=2)
    long, longer, short = Guest("a", taken=8), Guest("b", taken=30), Guest("c")
    lined_up(line, long, longer)
    assert admitted(line) == "ab"
    assert line.step_aside() == []
    lined_up(line, short)
    assert line.step_aside() == [longer]
    assert admitted(line) == "c"
    assert list(line.waiting) == [longer]


def test_whoever_has_not_had_his_turn_stays() -> None:
    line = scheduler(most_rows=1)
    lined_up(line, Guest("a", taken=7), Guest("b"))
    assert admitted(line) == "a"
    assert line.step_aside() == []


def test_rows_that_begin_again_are_first_in_line_and_fewer_are_let_in() -> None:
    line = scheduler()
    lined_up(line, *(Guest(name) for name in "abcd"))
    assert admitted(line) == "abc"
    line.shrink()
    assert [guest.name for guest in line.again()] == ["a", "b", "c"]
    assert [guest.name for guest in line.waiting] == ["a", "b", "c", "d"]
    assert admitted(line) == "a"


def test_everyone_is_served_whatever_comes() -> None:
    draw, line = random.Random(1), scheduler(most_rows=4, most_waiting=100)
    guests = [Guest(str(number), length=draw.randint(1, 40)) for number in range(200)]
    left = {guest: draw.randint(1, 60) for guest in guests}
    coming = list(guests)
    while coming or line.waiting or line.running:
        while coming and not line.is_full(guest=False) and draw.random() < 0.5:
            line.put(coming.pop())
        line.step_aside()
        for guest in line.admit(lambda guest: guest.length):
            guest.taken = 0
        assert len(line.running) <= 4
        for guest in list(line.running):
            guest.taken += 1
            left[guest] -= 1
            if not left[guest]:
                line.leave(guest)
    assert set(left.values()) == {0}
