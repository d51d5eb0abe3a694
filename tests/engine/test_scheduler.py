"""The scheduler without a model: queues, slots, time slices and the prefill of a step."""

from __future__ import annotations

import random

import pytest

from blip_space.engine.plan import Plan
from blip_space.engine.sequence import FinishReason, Sequence, Status
from tests.engine.named_sequences import NamedSequences


def test_first_come_first_served_while_there_are_slots() -> None:
    named = NamedSequences()
    named.add("abcde")
    assert [named.admitted(), named.admitted()] == ["abc", ""]
    named.scheduler.running[1].finish(FinishReason.STOP)
    assert named.admitted() == "d"
    assert named.names_of(named.scheduler.running) == "acd"


def test_the_prefill_of_a_step_is_bounded_but_one_long_prompt_is_admitted() -> None:
    named = NamedSequences()
    named.add("a", length=90)
    named.add("b")
    named.add("c", length=25)
    assert [named.admitted() for _ in range(4)] == ["a", "b", "c", ""]


def test_no_sequence_is_admitted_or_preempted_without_admit() -> None:
    named = NamedSequences()
    named.add("a")
    assert named.admitted() == "a"
    named.add("b")
    assert named.schedule(admit=False) == Plan()
    assert named.names_of(named.scheduler.running) == "a"
    assert named.admitted() == "b"


@pytest.mark.parametrize("background", [False, True])
def test_cancelled_sequences_are_removed_from_every_list(background: bool) -> None:
    named = NamedSequences(max_batch_size=1)
    running, waiting, last = named.add("abc", background=background)
    assert named.admitted() == "a"
    running.is_cancelled = waiting.is_cancelled = True
    plan = named.schedule()
    assert (named.names_of(plan.removed), named.names_of(plan.admitted)) == ("a", "c")
    assert (running.finish_reason, waiting.status) == (FinishReason.CANCELLED, Status.FINISHED)
    assert last.status is Status.RUNNING


def test_the_longest_answer_is_preempted_after_its_time_slice() -> None:
    named = NamedSequences(max_batch_size=2)
    long, longer = named.add("ab")
    assert named.admitted() == "ab"
    long.ids, longer.ids = [1] * 8, [1] * 30
    assert named.schedule() == Plan()
    named.add("c")
    plan = named.schedule()
    assert (named.names_of(plan.preempted), named.names_of(plan.admitted)) == ("b", "c")
    assert (longer.status, named.names_of(named.scheduler.waiting)) == (Status.PREEMPTED, "b")


def test_no_sequence_is_preempted_within_its_time_slice() -> None:
    named = NamedSequences(max_batch_size=1)
    (first,) = named.add("a")
    assert named.admitted() == "a"
    first.ids = [1] * 7
    named.add("b")
    assert named.schedule() == Plan()


def test_a_plan_says_whether_the_next_step_prefills_others() -> None:
    """Only if the limit of positions is why they wait, and not slots or memory."""
    named = NamedSequences(max_batch_size=3, max_rows=4)
    named.add("abcd", length=20)
    plans = [named.schedule() for _ in range(4)]
    assert [(named.names_of(plan.admitted), plan.admits_more) for plan in plans] == [
        ("a", True), ("b", True), ("c", False), ("", False),
    ]  # fmt: skip
    named.add("st", length=20, best=True)
    assert [named.schedule().admits_more for _ in range(2)] == [False, False]  # of five rows there are four


def test_preempted_sequences_need_no_prefill() -> None:
    named = NamedSequences(max_batch_size=2)
    named.add("ab", length=30)
    assert [named.admitted(), named.admitted()] == ["a", "b"]
    for sequence in named.scheduler.running:
        sequence.ids = [1] * 8
    named.add("cd")
    assert named.admitted() == "cd"
    for sequence in named.scheduler.running:
        sequence.finish(FinishReason.STOP)
    assert named.admitted() == "ab"


def test_a_waiting_beam_search_takes_no_slot_of_a_stream() -> None:
    """Beam searches held slots of streams from admission on, though only some ran at a time."""
    named = NamedSequences(max_batch_size=2)
    named.add("stuv", best=True)
    named.add("abc")
    assert named.admitted() == "sta"
    assert named.admitted() == "b"
    named.scheduler.running[0].finish(FinishReason.STOP)
    assert named.admitted() == "u"


def test_requeued_sequences_are_first_in_their_queue() -> None:
    named = NamedSequences(max_batch_size=2, time_slice_tokens=1)
    first, _ = named.add("ab")
    named.admitted()
    first.ids = [1]
    named.add("c")
    assert named.names_of(named.schedule().preempted) == "a"
    named.add("d")
    assert named.names_of(named.scheduler.requeue_all()) == "bca"
    assert named.names_of(named.scheduler.waiting) == "bcad"
    assert (first.status, first.ids) == (Status.WAITING, [])


def test_a_sequence_that_may_have_failed_a_batch_waits_for_all_others() -> None:
    """Beside others it could fail theirs as well."""
    named = NamedSequences()
    (other,) = named.add("a")
    assert named.admitted() == "a"
    (suspect,) = named.add("b")
    suspect.attempts = 1
    assert named.admitted() == ""
    other.finish(FinishReason.STOP)
    assert named.admitted() == "b"


def test_a_sequence_that_may_have_failed_a_batch_runs_alone() -> None:
    named = NamedSequences()
    suspect, other, third = named.add("abc")
    suspect.attempts = other.attempts = 1
    assert [named.admitted(), named.admitted()] == ["a", ""]
    suspect.finish(FinishReason.STOP)
    assert named.admitted() == "b"
    other.finish(FinishReason.STOP)
    assert named.admitted() == "c"
    assert third.status is Status.RUNNING


def test_with_min_free_share_sequences_are_admitted_once_enough_of_the_batch_is_free() -> None:
    named = NamedSequences(max_batch_size=4, max_prefill_tokens=99, min_free_share=0.5)
    named.add("abcdef")
    assert named.admitted() == "abcd"
    named.scheduler.running[0].finish(FinishReason.STOP)
    assert named.admitted() == ""
    named.scheduler.running[0].finish(FinishReason.STOP)
    assert named.admitted() == "ef"


def test_with_min_free_share_a_batch_is_filled_in_several_steps_until_it_is_full() -> None:
    """With a limit of prefill, half of it stayed empty."""
    named = NamedSequences(max_batch_size=4, max_prefill_tokens=10, min_free_share=0.5)
    named.add("abc")
    plans = [named.schedule() for _ in range(3)]
    assert [named.names_of(plan.admitted) for plan in plans] == ["a", "b", "c"]
    assert all(plan.admits_more for plan in plans)
    named.add("de")
    plan = named.schedule()
    assert (named.names_of(plan.admitted), plan.admits_more, named.admitted()) == ("d", False, "")
    named.scheduler.running[0].finish(FinishReason.STOP)
    assert named.admitted() == ""
    named.scheduler.running[0].finish(FinishReason.STOP)
    assert named.admitted() == "e"


def test_with_min_free_share_nothing_is_preempted() -> None:
    """Captions longer than a time slice gave up their rows to others and went on later, as streams do for users."""
    named = NamedSequences(max_batch_size=2, min_free_share=0.5, time_slice_tokens=1)
    running = named.add("ab")
    assert named.admitted() == "ab"
    named.add("cd")
    for sequence in running:
        sequence.ids.append(1)
    assert named.schedule() == Plan()


def test_every_sequence_is_served_in_any_order_of_arrival() -> None:
    rng, named = random.Random(1), NamedSequences(max_batch_size=4, max_rows=14)
    left: dict[Sequence, int] = {}
    for number in range(200):
        background, best = rng.random() < 0.3, rng.random() < 0.3
        (sequence,) = named.add(chr(number), length=rng.randint(1, 40), background=background, best=best)
        left[sequence] = rng.randint(1, 60)
    for _ in range(50_000):
        if all(sequence.status is Status.FINISHED for sequence in left):
            break
        named.schedule()
        streams = [sequence for sequence in named.scheduler.running if not sequence.uses_beam_search]
        assert len(streams) <= 4
        assert len(named.scheduler.running) - len(streams) <= 2
        for sequence in named.scheduler.running:
            sequence.ids.append(1)
            if len(sequence.ids) >= left[sequence]:
                sequence.finish(FinishReason.STOP)
    assert {sequence.status for sequence in left} == {Status.FINISHED}
