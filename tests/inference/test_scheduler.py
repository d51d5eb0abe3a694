"""Laws of the waiting line, without a model: order, bounds, turns and whose model comes next."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

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
    usual = {"most_rows": 3, "most_waiting": 9, "most_guests": 9, "most_positions": 30, "turn_tokens": 8}
    return Scheduler(**usual | limits)


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


def guests(names: str, **changes: Any) -> list[Guest]:
    return [Guest(name, guest=True, **changes) for name in names]


def test_guests_leave_half_of_the_places_free_and_have_one_at_least() -> None:
    line = scheduler(most_rows=5)
    lined_up(line, *guests("abcd"))
    assert (admitted(line), admitted(line)) == ("ab", "")
    lined_up(line, Guest("1"), Guest("2"), Guest("3"))
    assert admitted(line) == "123"
    alone = scheduler(most_rows=1)
    lined_up(alone, *guests("ab"))
    assert admitted(alone) == "a"


def test_no_guest_is_let_in_before_a_visitor_who_waits() -> None:
    line = scheduler()
    lined_up(line, *guests("ab"), Guest("1", length=20), Guest("2", length=20))
    assert [admitted(line) for _ in range(3)] == ["1", "2", "a"]


def test_beside_visitors_guests_are_let_in_one_at_a_time() -> None:
    line = scheduler(most_rows=6)
    lined_up(line, Guest("1"), *guests("abc", length=1))
    assert [admitted(line) for _ in range(3)] == ["1", "a", "b"]


def test_a_guest_gives_its_place_to_a_visitor_at_once_and_goes_on_before_other_guests() -> None:
    line = scheduler(most_rows=1)
    first, visitor = *guests("a", taken=1), Guest("1")
    lined_up(line, first, *guests("bc"))
    assert admitted(line) == "a"
    assert line.step_aside() == []
    lined_up(line, visitor)
    assert line.step_aside() == [first]
    assert admitted(line) == "1"
    line.leave(visitor)
    assert admitted(line) == "a"


def test_guests_step_aside_before_visitors_who_had_their_turn_and_searches_go_on() -> None:
    line = scheduler(most_rows=3)
    search, long, guest = Guest("s", guest=True, searches=True), Guest("1", taken=99), Guest("g", guest=True)
    line.running = [search, long, guest]
    lined_up(line, Guest("2"))
    assert line.step_aside() == [guest]
    line.running.append(line.waiting.popleft())
    lined_up(line, Guest("3"))
    assert line.step_aside() == [long]


def test_guests_have_a_line_of_their_own() -> None:
    line = scheduler(most_waiting=2, most_guests=3)
    lined_up(line, *guests("abc"))
    assert (line.is_full(guest=True), line.is_full(guest=False)) == (True, False)
    visitor = Guest("1")
    lined_up(line, visitor)
    assert line.ahead(visitor) == 0
    assert line.ahead(line.guests[0]) is None


def test_a_guest_that_left_is_forgotten() -> None:
    line = scheduler()
    lined_up(line, *guests("ab"))
    line.guests[0].over = True
    assert line.sweep() == []
    assert admitted(line) == "b"


def test_a_guest_with_another_model_waits_for_the_rows_to_end_and_a_visitor_for_no_new_guest() -> None:
    line = scheduler()
    lined_up(line, Guest("1"), *guests("a", model="two"))
    assert (admitted(line), admitted(line)) == ("1", "")
    line.leave(line.running[0])
    assert (line.next_model(), admitted(line)) == ("two", "a")
    lined_up(line, Guest("2"), *guests("b", model="two"))
    assert admitted(line) == ""
    line.leave(line.running[0])
    assert admitted(line) == "2"


def test_searches_go_on_where_rows_begin_again() -> None:
    line = scheduler(most_rows=4)
    lined_up(line, Guest("1"), Guest("s", searches=True), *guests("g"))
    assert admitted(line) + admitted(line) == "1sg"
    assert [guest.name for guest in line.again()] == ["1", "g"]
    assert [guest.name for guest in line.running] == ["s"]
    assert [guest.name for guest in line.in_line()] == ["1", "g"]
