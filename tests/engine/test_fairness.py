"""The scheduler and callers: each address has its share of slots and of memory, and each session at it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from blip_space.callers import Caller
from blip_space.engine.plan import Plan
from blip_space.engine.sequence import FinishReason, Sequence, Status
from tests.engine.named_sequences import NamedSequences

GREEDY, QUIET, THIRD = (Caller(f"127.0.0.{number}", "one") for number in (2, 3, 4))
OTHER_SESSION = Caller(GREEDY.address, "two")


@pytest.mark.parametrize("background", [False, True])
def test_the_caller_with_the_fewest_running_is_next(background: bool) -> None:
    """A caller with many waiting requests came first with all of them."""
    named = NamedSequences(max_batch_size=8, max_prefill_tokens=999)
    named.add("abc", caller=GREEDY, background=background, length=1)
    named.add("1", caller=QUIET, background=background, length=1)
    named.add("x", caller=THIRD, background=background, length=1)
    named.add("2", caller=QUIET, background=background, length=1)
    assert "".join(named.admitted() for _ in range(8)) == ("a1xb" if background else "a1xb2c")


def test_of_one_address_the_session_with_the_fewest_running_is_next() -> None:
    """Behind a proxy that is not trusted, all callers have its address."""
    named = NamedSequences(max_prefill_tokens=99)
    named.add("ab", caller=GREEDY)
    named.add("x", caller=OTHER_SESSION)
    assert named.admitted() == "axb"


def test_a_new_caller_gets_a_slot_at_once_from_one_with_several() -> None:
    """It waited until one of them had used up its time slice, and a beam search until one ended."""
    named = NamedSequences()
    greedy = named.add("abc", caller=GREEDY)
    assert named.admitted() == "abc"
    for tokens, sequence in enumerate(greedy):
        sequence.ids = [1] * tokens
    named.add("1", caller=QUIET)
    plan = named.schedule()
    assert (named.names_of(plan.preempted), named.names_of(plan.admitted)) == ("c", "1")
    named.add("2", caller=QUIET)
    assert named.schedule() == Plan(), "they would only change places"


def test_a_new_caller_gets_the_place_of_the_last_beam_search_of_one_with_several() -> None:
    named = NamedSequences()
    named.add("st", best=True, caller=GREEDY)
    assert named.admitted() == "st"
    (mine,) = named.add("1", best=True, caller=QUIET)
    plan = named.schedule()
    assert (named.names_of(plan.discarded), named.names_of(plan.admitted)) == ("t", "1")
    assert named.schedule() == Plan()
    mine.finish(FinishReason.STOP)
    assert named.admitted() == "t"


def test_no_running_sequence_gives_way_to_a_caller_with_as_many() -> None:
    """A quiet caller's answer was preempted for the next one of a greedy caller, after each time slice."""
    named = NamedSequences(max_batch_size=2)
    (mine,) = named.add("1", caller=QUIET)
    greedy, *_ = named.add("abcd", caller=GREEDY)
    assert named.admitted() == "1a"
    mine.ids = [1] * 30
    assert named.schedule() == Plan()
    greedy.ids = [1] * 8
    plan = named.schedule()
    assert (named.names_of(plan.preempted), named.names_of(plan.admitted)) == ("a", "b")


def test_callers_with_one_request_each_take_turns_by_time_slices() -> None:
    named = NamedSequences(max_batch_size=1, time_slice_tokens=2)
    for name, caller in zip("a1x", (GREEDY, QUIET, THIRD), strict=True):
        named.add(name, caller=caller)
    admitted = ""
    for _ in range(6):
        admitted += named.admitted()
        named.scheduler.running[0].ids += [1, 1]
    assert admitted == "a1xa1x"


@pytest.mark.parametrize("best", [False, True])
def test_a_new_caller_gets_memory_from_one_with_several(best: bool) -> None:
    """Those admitted last restart, preempted ones first, as they hold memory too."""
    named = NamedSequences(max_rows=5, max_batch_size=4, max_prefill_tokens=99)
    running = named.add("abcd", caller=GREEDY)
    named.admitted()
    running[0].ids = [1] * 9
    named.add("e", caller=GREEDY)
    assert named.names_of(named.schedule().preempted) == "a"
    running[1].finish(FinishReason.STOP)
    named.scheduler.memory.set(max_rows=4 if not best else 7, max_positions=99_999)
    named.add("1", caller=QUIET, best=best)
    plan = named.schedule()
    assert named.names_of(plan.admitted)[0] == "1"
    assert (running[0].status, running[0].ids) == (Status.WAITING, [])
    assert named.names_of(plan.discarded) == ("ed"[: len(plan.discarded)])


def test_no_memory_is_freed_for_a_sequence_that_waits_to_run_alone() -> None:
    named = NamedSequences()
    named.add("ab", caller=GREEDY)
    named.admitted()
    (suspect,) = named.add("1", caller=QUIET)
    suspect.attempts = 1
    assert named.schedule() == Plan()


def test_every_caller_is_served_beside_a_greedy_one() -> None:
    rng, named = random.Random(3), NamedSequences(max_batch_size=4, max_rows=14)
    callers = [GREEDY, GREEDY, GREEDY, GREEDY, OTHER_SESSION, QUIET, THIRD]
    left: dict[Sequence, int] = {}
    for number in range(200):
        values: dict[str, Any] = {"background": rng.random() < 0.3, "best": rng.random() < 0.3}
        (sequence,) = named.add(chr(number), length=rng.randint(1, 40), caller=rng.choice(callers), **values)
        left[sequence] = rng.randint(1, 60)
    for _ in range(50_000):
        if all(sequence.status is Status.FINISHED for sequence in left):
            break
        named.schedule()
        assert sum(sequence.num_rows for sequence in named.scheduler.running) <= 14
        for sequence in named.scheduler.running:
            sequence.ids.append(1)
            if len(sequence.ids) >= left[sequence]:
                sequence.finish(FinishReason.STOP)
    assert {sequence.status for sequence in left} == {Status.FINISHED}
