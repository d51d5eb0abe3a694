"""The scheduler within its memory: rows and positions, and the limit after memory ran out."""

from __future__ import annotations

from blip_space.engine.plan import Plan
from blip_space.engine.sequence import FinishReason
from tests.engine.named_sequences import NamedSequences


def test_rows_of_preempted_sequences_count() -> None:
    """Memory had four rows, and eleven were in it at once."""
    named = NamedSequences(max_rows=4, max_batch_size=4, max_prefill_tokens=99)
    named.add("abcd")
    assert named.admitted() == "abcd"
    for sequence in named.scheduler.running:
        sequence.ids = [1] * 50
    named.add("efgh")
    assert named.schedule() == Plan()
    named.scheduler.running[0].finish(FinishReason.STOP)
    named.scheduler.running[1].finish(FinishReason.STOP)
    plan = named.schedule()
    assert (named.names_of(plan.preempted), named.names_of(plan.admitted)) == ("", "ef")


def test_rows_of_preempted_background_sequences_count() -> None:
    named = NamedSequences(max_rows=7, max_batch_size=2)
    named.add("a", background=True)
    assert named.admitted() == "a"
    named.add("12")
    named.add("s", best=True)
    plan = named.schedule()
    assert (named.names_of(plan.preempted), named.names_of(plan.admitted)) == ("a", "12")


def test_a_preempted_sequence_resumes_in_its_own_memory() -> None:
    """Its rows are in memory, whether or not it runs."""
    named = NamedSequences(max_rows=6, max_batch_size=1)
    (long,) = named.add("a")
    assert named.admitted() == "a"
    long.ids = [1] * 8
    (short,) = named.add("b")
    named.add("s", best=True)
    assert named.admitted() == "b"
    short.finish(FinishReason.STOP)
    assert named.admitted() == "sa"


def test_every_beam_counts_as_a_row() -> None:
    named = NamedSequences(max_rows=7)
    named.add("s", best=True)
    named.add("abc")
    assert named.admitted() == "sab"


def test_no_sequence_is_preempted_for_one_behind_a_beam_search_without_memory() -> None:
    """Streams were preempted until they filled the memory, and no sequence took their slots."""
    named = NamedSequences(max_rows=7)
    running = named.add("abc")
    named.schedule()
    for sequence in running:
        sequence.ids = [0] * 8
    named.add("s", best=True)
    named.add("xyz")
    assert named.schedule() == Plan()
    running[0].finish(FinishReason.STOP)
    assert named.admitted()[0] == "s"


def test_a_beam_search_waits_for_the_memory_of_preempted_sequences() -> None:
    """It ran alone in the batch, and the rows of preempted sequences were not counted."""
    named = NamedSequences(max_rows=5, max_batch_size=1)
    (first,) = named.add("a")
    named.schedule()
    first.ids = [0] * 8
    (other,) = named.add("b")
    named.add("s", best=True)
    plan = named.schedule()
    assert (named.names_of(plan.preempted), named.names_of(plan.admitted)) == ("a", "b")
    other.finish(FinishReason.STOP)
    assert named.admitted() == "a"
    first.finish(FinishReason.STOP)
    assert named.admitted() == "s"


def test_a_sequence_with_more_rows_than_memory_is_tried_alone() -> None:
    named = NamedSequences(max_rows=3)
    named.add("s", best=True)
    named.add("a")
    assert named.admitted() == "s"
    named.scheduler.running[0].finish(FinishReason.STOP)
    assert named.admitted() == "a"


def test_every_row_counts_as_long_as_the_longest() -> None:
    """Every row of the buffers is as long as the longest, so beside a long answer fewer fit."""
    named = NamedSequences(max_positions=40, max_batch_size=9, max_prefill_tokens=99)
    named.add("abcde", new_tokens=10)
    named.add("l", new_tokens=20)
    assert named.admitted() == "abcd"
    for sequence in named.scheduler.running:
        sequence.finish(FinishReason.STOP)
    assert named.admitted() == "el"
    named.add("f", new_tokens=10)
    assert named.admitted() == ""


def test_a_sequence_longer_than_memory_is_tried_alone() -> None:
    named = NamedSequences(max_positions=40)
    named.add("la", new_tokens=400)
    assert [named.admitted(), named.admitted()] == ["l", ""]


def test_no_sequence_is_preempted_unless_its_keys_and_values_fit_beside_the_other() -> None:
    named = NamedSequences(max_positions=20, max_batch_size=1, time_slice_tokens=8)
    (running,) = named.add("a", new_tokens=20)
    assert named.admitted() == "a"
    running.ids = [1] * 9
    named.add("b", new_tokens=10)
    assert named.schedule() == Plan()
    named.scheduler.memory.set(max_rows=99, max_positions=40)
    assert named.names_of(named.schedule().preempted) == "a"


def test_a_long_sequence_waits_for_memory_beside_short_ones() -> None:
    named = NamedSequences(max_positions=40)
    named.add("a", new_tokens=10)
    assert named.admitted() == "a"
    named.add("l", new_tokens=30)
    assert named.admitted() == ""
    named.scheduler.running[0].finish(FinishReason.STOP)
    assert named.admitted() == "l"


def test_no_sequence_is_preempted_for_one_that_is_too_long() -> None:
    named = NamedSequences(max_positions=30, max_batch_size=1, time_slice_tokens=8)
    (running,) = named.add("a", new_tokens=10)
    assert named.admitted() == "a"
    running.ids = [1] * 9
    named.add("b", new_tokens=20)
    assert named.schedule() == Plan()


def test_no_more_sequences_are_preempted_than_fit_into_memory() -> None:
    named = NamedSequences(max_positions=60, max_batch_size=2, time_slice_tokens=8)
    running = named.add("ab", new_tokens=20)
    assert named.admitted() == "ab"
    for sequence in running:
        sequence.ids = [1] * 9
    named.add("cd", new_tokens=20)
    plan = named.schedule()
    assert (named.names_of(plan.preempted), named.names_of(plan.admitted)) == ("a", "c")


def test_the_length_of_a_preempted_sequence_counts() -> None:
    """It returns to the batch, whose rows are then as long as it is."""
    named = NamedSequences(max_positions=100, max_batch_size=1, time_slice_tokens=8)
    (long,) = named.add("l", new_tokens=30)
    assert named.admitted() == "l"
    long.ids = [1] * 9
    named.add("a", new_tokens=10)
    assert named.names_of(named.schedule().preempted) == "l"
    (search,) = named.add("s", new_tokens=10, best=True)
    assert (2 + search.num_rows) * 10 <= 100 < (2 + search.num_rows) * 30
    assert named.admitted() == ""


def test_after_out_of_memory_the_batch_is_halved_and_grows_back_while_others_wait() -> None:
    """The limit stayed reduced for ever, and then for minutes."""
    named = NamedSequences(max_rows=4, max_batch_size=4, max_prefill_tokens=99, recovery_steps=5)
    named.add("abcd")
    assert named.admitted() == "abcd"
    named.scheduler.memory.reduce(4, now=10.0)
    assert named.names_of(named.scheduler.requeue_all()) == "abcd"
    admitted = [named.names_of(named.schedule(now=now).admitted) for now in (11.0, 12.0, 13.0, 14.0, 15.0, 90.0)]
    assert admitted == ["ab", "", "", "", "c", ""]
    for _ in range(5):
        named.schedule(now=90.0)
    assert named.names_of(named.scheduler.running) == "abcd"
