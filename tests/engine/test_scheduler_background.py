"""The scheduler and background sequences, which never delay others."""

from __future__ import annotations

import pytest

from blip_space.engine.sequence import FinishReason, Status
from tests.engine.named_sequences import NamedSequences


def test_a_preempted_background_sequence_is_requeued_as_well() -> None:
    """Otherwise its keys and values stay in the memory that ran out."""
    named = NamedSequences(max_batch_size=1)
    (first,) = named.add("a", background=True)
    named.admitted()
    first.ids = [1]
    named.add("1")
    assert named.names_of(named.schedule().preempted) == "a"
    assert named.names_of(named.scheduler.requeue_all()) == "1a"
    assert (first.status, first.ids) == (Status.WAITING, [])
    assert (named.names_of(named.scheduler.waiting), named.names_of(named.scheduler.background)) == ("1", "a")


def test_background_sequences_take_half_of_the_slots_and_at_least_one() -> None:
    named = NamedSequences(max_batch_size=5)
    named.add("abcd", background=True)
    assert [named.admitted(), named.admitted()] == ["ab", ""]
    named.add("123")
    assert named.admitted() == "123"
    alone = NamedSequences(max_batch_size=1)
    alone.add("ab", background=True)
    assert alone.admitted() == "a"


def test_background_sequences_are_admitted_after_all_others_one_at_a_time() -> None:
    named = NamedSequences(max_batch_size=6)
    named.add("abc", background=True, length=1)
    named.add("12", length=20)
    assert [named.admitted() for _ in range(4)] == ["1", "2", "a", "b"]


@pytest.mark.parametrize("best", [False, True])
def test_a_background_sequence_is_preempted_at_once_and_resumes_first(best: bool) -> None:
    """With the default quality, best, a batch job gave up no slot."""
    named = NamedSequences(max_batch_size=1, max_beam_groups=1)
    named.add("ab", background=True, best=best)
    assert named.admitted() == "a"
    (other,) = named.add("1", best=best)
    plan = named.schedule()
    assert (named.names_of(plan.discarded if best else plan.preempted), named.names_of(plan.admitted)) == ("a", "1")
    other.finish(FinishReason.STOP)
    assert named.admitted() == "a"


def test_a_background_stream_is_discarded_without_memory_to_preempt_it() -> None:
    named = NamedSequences(max_rows=1, max_batch_size=1)
    (first,) = named.add("a", background=True)
    assert named.admitted() == "a"
    first.ids = [1, 2]
    named.add("1")
    plan = named.schedule()
    assert (named.names_of(plan.discarded), named.names_of(plan.admitted), first.ids) == ("a", "1", [])


@pytest.mark.parametrize(
    ("searches", "best", "discarded"), [(False, False, "c"), (False, True, "cba"), (True, False, "a")]
)
def test_background_sequences_are_discarded_for_a_user_without_memory(
    searches: bool, best: bool, discarded: str
) -> None:
    """With little memory a user waited for the end of a background caption."""
    named = NamedSequences(max_rows=5 if best or searches else 3, max_batch_size=8)
    named.add("a" if searches else "abc", background=True, best=searches)
    named.schedule()
    named.add("1", best=best)
    plan = named.schedule()
    assert (named.names_of(plan.discarded), named.names_of(plan.admitted)) == (discarded, "1")


def test_preempted_background_sequences_are_discarded_before_running_ones() -> None:
    named = NamedSequences(max_rows=4, max_batch_size=3)
    named.add("a", background=True)
    named.schedule()
    named.add("xyz")
    assert named.names_of(named.schedule().preempted) == "a"
    kept = named.scheduler.background[0]
    named.scheduler.running[0].finish(FinishReason.STOP)
    named.add("s", best=True)
    named.schedule()
    assert kept.status is Status.WAITING
    assert named.names_of(named.scheduler.running) == "yz"
