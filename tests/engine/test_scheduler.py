"""Laws of the scheduler, without a model: order, bounds, time slices, and who gives way to whom."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from blip_space.engine.detokenizer import Detokenizer
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.scheduler import Plan, Scheduler
from blip_space.engine.sequence import FinishReason, Sequence, Status
from blip_space.models.preparation import Prompt
from blip_space.options import GenerationOptions
from tests.engine.fake_model import spec

CONFIG = EngineConfig(max_batch_size=3, max_beam_groups=2, max_prefill_tokens=30, time_slice_tokens=8)


class Queue:
    """A scheduler whose sequences have names, and lengths of prompts that a test says."""

    def __init__(self, *, max_rows: int = 99, max_positions: int = 99_999, **changes: Any) -> None:
        self.scheduler = Scheduler(replace(CONFIG, **changes), max_rows=max_rows, max_positions=max_positions)
        self.names: dict[Sequence, str] = {}

    def add(
        self, names: str, *, length: int = 10, background: bool = False, best: bool = False, new_tokens: int = 64
    ) -> list[Sequence]:
        options = GenerationOptions(quality="best" if best else "stream", max_new_tokens=new_tokens)
        request = PreparedRequest(spec(), Prompt("", (), ()), (), options, background=background)
        added = [Sequence(ord(name), request, Detokenizer(lambda _: "")) for name in names]
        for name, sequence in zip(names, added, strict=True):
            self.names[sequence], sequence.uncached_tokens = name, length
            self.scheduler.add(sequence)
        return added

    def schedule(self, *, now: float = 0.0, admit: bool = True) -> Plan:
        return self.scheduler.schedule(now=now, admit=admit)

    def admitted(self) -> str:
        return self.named(self.schedule().admitted)

    def named(self, sequences: list[Sequence]) -> str:
        return "".join(self.names[sequence] for sequence in sequences)


def test_first_come_first_served_while_there_are_slots() -> None:
    queue = Queue()
    queue.add("abcde")
    assert [queue.admitted(), queue.admitted()] == ["abc", ""]
    queue.scheduler.running[1].finish(FinishReason.STOP)
    assert queue.admitted() == "d"
    assert queue.named(queue.scheduler.running) == "acd"


def test_the_prefill_of_a_step_is_bounded_but_one_long_prompt_is_read() -> None:
    queue = Queue()
    queue.add("a", length=90)
    queue.add("b")
    queue.add("c", length=25)
    assert [queue.admitted() for _ in range(4)] == ["a", "b", "c", ""]


def test_nobody_comes_in_while_admission_is_closed_and_who_runs_goes_on() -> None:
    queue = Queue()
    queue.add("a")
    assert queue.admitted() == "a"
    queue.add("b")
    assert queue.schedule(admit=False) == Plan()
    assert queue.named(queue.scheduler.running) == "a"
    assert queue.admitted() == "b"


@pytest.mark.parametrize("background", [False, True])
def test_cancelled_sequences_are_forgotten_wherever_they_are(background: bool) -> None:
    queue = Queue(max_batch_size=1)
    running, waiting, last = queue.add("abc", background=background)
    assert queue.admitted() == "a"
    running.is_cancelled = waiting.is_cancelled = True
    plan = queue.schedule()
    assert (queue.named(plan.removed), queue.named(plan.admitted)) == ("a", "c")
    assert (running.finish_reason, waiting.status) == (FinishReason.CANCELLED, Status.FINISHED)
    assert last.status is Status.RUNNING


def test_a_long_answer_gives_its_slot_away_after_its_time_slice() -> None:
    queue = Queue(max_batch_size=2)
    long, longer = queue.add("ab")
    assert queue.admitted() == "ab"
    long.ids, longer.ids = [1] * 8, [1] * 30
    assert queue.schedule() == Plan()
    queue.add("c")
    plan = queue.schedule()
    assert (queue.named(plan.preempted), queue.named(plan.admitted)) == ("b", "c")
    assert (longer.status, queue.named(queue.scheduler.waiting)) == (Status.PREEMPTED, "b")


def test_nobody_is_preempted_within_a_time_slice() -> None:
    queue = Queue(max_batch_size=1)
    (first,) = queue.add("a")
    assert queue.admitted() == "a"
    first.ids = [1] * 7
    queue.add("b")
    assert queue.schedule() == Plan()


def test_the_rows_of_preempted_sequences_count_against_the_memory() -> None:
    """M4: four fit, and eleven were kept at once."""
    queue = Queue(max_rows=4, max_batch_size=4, max_prefill_tokens=99)
    queue.add("abcd")
    assert queue.admitted() == "abcd"
    for sequence in queue.scheduler.running:
        sequence.ids = [1] * 50
    queue.add("efgh")
    assert queue.schedule() == Plan()
    queue.scheduler.running[0].finish(FinishReason.STOP)
    queue.scheduler.running[1].finish(FinishReason.STOP)
    plan = queue.schedule()
    assert (queue.named(plan.preempted), queue.named(plan.admitted)) == ("", "ef")


def test_the_rows_of_preempted_background_sequences_count_against_the_memory() -> None:
    queue = Queue(max_rows=7, max_batch_size=2)
    queue.add("a", background=True)
    assert queue.admitted() == "a"
    queue.add("12")
    queue.add("s", best=True)
    plan = queue.schedule()
    assert (queue.named(plan.preempted), queue.named(plan.admitted)) == ("a", "12")


def test_a_preempted_sequence_goes_on_in_the_rows_that_it_has() -> None:
    """They are in the memory already, whether or not it runs."""
    queue = Queue(max_rows=6, max_batch_size=1)
    (long,) = queue.add("a")
    assert queue.admitted() == "a"
    long.ids = [1] * 8
    (short,) = queue.add("b")
    queue.add("s", best=True)
    assert queue.admitted() == "b"
    short.finish(FinishReason.STOP)
    assert queue.admitted() == "sa"


def test_preempted_sequences_are_admitted_without_a_prefill() -> None:
    queue = Queue(max_batch_size=2)
    queue.add("ab", length=30)
    assert [queue.admitted(), queue.admitted()] == ["a", "b"]
    for sequence in queue.scheduler.running:
        sequence.ids = [1] * 8
    queue.add("cd")
    assert queue.admitted() == "cd"
    for sequence in queue.scheduler.running:
        sequence.finish(FinishReason.STOP)
    assert queue.admitted() == "ab"


def test_the_beams_of_a_search_count_against_the_memory() -> None:
    queue = Queue(max_rows=7)
    queue.add("s", best=True)
    queue.add("abc")
    assert queue.admitted() == "sab"


def test_nobody_is_preempted_for_one_who_waits_behind_a_search_without_memory() -> None:
    """Streams were set aside until the whole memory was theirs, and none took their slots."""
    queue = Queue(max_rows=7)
    running = queue.add("abc")
    queue.schedule()
    for sequence in running:
        sequence.ids = [0] * 8
    queue.add("s", best=True)
    queue.add("xyz")
    assert queue.schedule() == Plan()
    running[0].finish(FinishReason.STOP)
    assert queue.admitted()[0] == "s"


def test_a_search_takes_no_memory_beside_that_of_preempted_sequences() -> None:
    """It was alone in the batch, and their rows were not counted."""
    queue = Queue(max_rows=5, max_batch_size=1)
    (first,) = queue.add("a")
    queue.schedule()
    first.ids = [0] * 8
    (other,) = queue.add("b")
    queue.add("s", best=True)
    plan = queue.schedule()
    assert (queue.named(plan.preempted), queue.named(plan.admitted)) == ("a", "b")
    other.finish(FinishReason.STOP)
    assert queue.admitted() == "a"
    first.finish(FinishReason.STOP)
    assert queue.admitted() == "s"


def test_what_is_larger_than_the_memory_is_tried_alone() -> None:
    queue = Queue(max_rows=3)
    queue.add("s", best=True)
    queue.add("a")
    assert queue.admitted() == "s"
    queue.scheduler.running[0].finish(FinishReason.STOP)
    assert queue.admitted() == "a"


def test_a_beam_search_that_waits_holds_no_slot_of_a_stream() -> None:
    """M2: searches held a place from admission on, though only some went on at a time."""
    queue = Queue(max_batch_size=2)
    queue.add("stuv", best=True)
    queue.add("abc")
    assert queue.admitted() == "sta"
    assert queue.admitted() == "b"
    queue.scheduler.running[0].finish(FinishReason.STOP)
    assert queue.admitted() == "u"


def test_short_answers_run_together_where_long_ones_do_not_fit() -> None:
    """Each row of the batch is as long as the longest, so one long answer makes room for fewer."""
    queue = Queue(max_positions=40, max_batch_size=9, max_prefill_tokens=99)
    queue.add("abcde", new_tokens=10)
    queue.add("l", new_tokens=20)
    assert queue.admitted() == "abcd"
    for sequence in queue.scheduler.running:
        sequence.finish(FinishReason.STOP)
    assert queue.admitted() == "el"
    queue.add("f", new_tokens=10)
    assert queue.admitted() == ""


def test_one_that_is_longer_than_memory_is_tried_alone() -> None:
    queue = Queue(max_positions=40)
    queue.add("la", new_tokens=400)
    assert [queue.admitted(), queue.admitted()] == ["l", ""]


def test_nobody_is_preempted_for_one_that_would_not_fit_beside_its_keys_and_values() -> None:
    queue = Queue(max_positions=20, max_batch_size=1, time_slice_tokens=8)
    (running,) = queue.add("a", new_tokens=20)
    assert queue.admitted() == "a"
    running.ids = [1] * 9
    queue.add("b", new_tokens=10)
    assert queue.schedule() == Plan()
    queue.scheduler.set_limits(max_rows=99, max_positions=40)
    assert queue.named(queue.schedule().preempted) == "a"


def test_a_long_one_waits_for_room_beside_short_ones() -> None:
    queue = Queue(max_positions=40)
    queue.add("a", new_tokens=10)
    assert queue.admitted() == "a"
    queue.add("l", new_tokens=30)
    assert queue.admitted() == ""
    queue.scheduler.running[0].finish(FinishReason.STOP)
    assert queue.admitted() == "l"


def test_nobody_is_preempted_for_one_that_is_too_long_itself() -> None:
    queue = Queue(max_positions=30, max_batch_size=1, time_slice_tokens=8)
    (running,) = queue.add("a", new_tokens=10)
    assert queue.admitted() == "a"
    running.ids = [1] * 9
    queue.add("b", new_tokens=20)
    assert queue.schedule() == Plan()


def test_no_more_are_preempted_than_there_is_memory_for() -> None:
    queue = Queue(max_positions=60, max_batch_size=2, time_slice_tokens=8)
    running = queue.add("ab", new_tokens=20)
    assert queue.admitted() == "ab"
    for sequence in running:
        sequence.ids = [1] * 9
    queue.add("cd", new_tokens=20)
    plan = queue.schedule()
    assert (queue.named(plan.preempted), queue.named(plan.admitted)) == ("a", "c")


def test_a_preempted_one_keeps_its_room() -> None:
    """It comes back into the batch, whose rows are then as long as it is."""
    queue = Queue(max_positions=100, max_batch_size=1, time_slice_tokens=8)
    (long,) = queue.add("l", new_tokens=30)
    assert queue.admitted() == "l"
    long.ids = [1] * 9
    queue.add("a", new_tokens=10)
    assert queue.named(queue.schedule().preempted) == "l"
    (search,) = queue.add("s", new_tokens=10, best=True)
    assert (2 + search.num_rows) * 10 <= 100 < (2 + search.num_rows) * 30
    assert queue.admitted() == ""


def test_after_memory_ran_out_there_are_half_as_many_and_later_as_many_as_before() -> None:
    """M5: the server was smaller for ever."""
    queue = Queue(max_rows=4, max_batch_size=4, max_prefill_tokens=99, recovery_seconds=60.0)
    queue.add("abcd")
    assert queue.admitted() == "abcd"
    assert queue.scheduler.reduce_row_limit(now=10.0)
    assert queue.named(queue.scheduler.requeue_all()) == "abcd"
    assert queue.named(queue.schedule(now=20.0).admitted) == "ab"
    assert [queue.named(queue.schedule(now=now).admitted) for now in (69.0, 70.0, 100.0, 130.0)] == ["", "c", "", "d"]


def test_however_long_it_was_quiet_there_are_no_more_rows_than_fit() -> None:
    queue = Queue(max_rows=4, recovery_seconds=60.0)
    queue.add("a")
    queue.schedule()
    queue.scheduler.reduce_row_limit(now=10.0)
    queue.add("b")
    queue.schedule(now=10_000.0)
    assert queue.scheduler.row_limit == 4
    queue.scheduler.set_limits(max_rows=2, max_positions=10_000)  # another model takes the rest
    queue.add("c")
    queue.schedule(now=20_000.0)
    assert queue.scheduler.row_limit == 2


def test_what_begins_again_is_first_in_its_queue() -> None:
    queue = Queue(max_batch_size=2, time_slice_tokens=1)
    first, _ = queue.add("ab")
    queue.admitted()
    first.ids = [1]
    queue.add("c")
    assert queue.named(queue.schedule().preempted) == "a"
    queue.add("d")
    assert queue.named(queue.scheduler.requeue_all()) == "bca"
    assert queue.named(queue.scheduler.waiting) == "bcad"
    assert (first.status, first.ids) == (Status.WAITING, [])


def test_a_preempted_background_sequence_begins_again_as_well() -> None:
    """Its keys and values would stay in the memory that ran out."""
    queue = Queue(max_batch_size=1)
    (first,) = queue.add("a", background=True)
    queue.admitted()
    first.ids = [1]
    queue.add("1")
    assert queue.named(queue.schedule().preempted) == "a"
    assert queue.named(queue.scheduler.requeue_all()) == "1a"
    assert (first.status, first.ids) == (Status.WAITING, [])
    assert (queue.named(queue.scheduler.waiting), queue.named(queue.scheduler.background)) == ("1", "a")


def test_what_failed_in_a_batch_waits_until_the_others_are_done() -> None:
    """Beside others it could end theirs as well."""
    queue = Queue()
    (other,) = queue.add("a")
    assert queue.admitted() == "a"
    (suspect,) = queue.add("b")
    suspect.attempts = 1
    assert queue.admitted() == ""
    other.finish(FinishReason.STOP)
    assert queue.admitted() == "b"


def test_what_failed_in_a_batch_runs_alone_next_time() -> None:
    queue = Queue()
    suspect, other, third = queue.add("abc")
    suspect.attempts = other.attempts = 1
    assert [queue.admitted(), queue.admitted()] == ["a", ""]
    suspect.finish(FinishReason.STOP)
    assert queue.admitted() == "b"
    other.finish(FinishReason.STOP)
    assert queue.admitted() == "c"
    assert third.status is Status.RUNNING


def test_background_sequences_leave_half_of_the_slots_free_and_have_one_at_least() -> None:
    queue = Queue(max_batch_size=5)
    queue.add("abcd", background=True)
    assert [queue.admitted(), queue.admitted()] == ["ab", ""]
    queue.add("123")
    assert queue.admitted() == "123"
    alone = Queue(max_batch_size=1)
    alone.add("ab", background=True)
    assert alone.admitted() == "a"


def test_background_sequences_wait_for_all_others_and_come_one_at_a_time_beside_them() -> None:
    queue = Queue(max_batch_size=6)
    queue.add("abc", background=True, length=1)
    queue.add("12", length=20)
    assert [queue.admitted() for _ in range(4)] == ["1", "2", "a", "b"]


@pytest.mark.parametrize("best", [False, True])
def test_a_background_sequence_gives_its_slot_away_at_once_and_goes_on_first(best: bool) -> None:
    """M2: with the default quality, best, a batch gave none away."""
    queue = Queue(max_batch_size=1, max_beam_groups=1)
    queue.add("ab", background=True, best=best)
    assert queue.admitted() == "a"
    (other,) = queue.add("1", best=best)
    plan = queue.schedule()
    assert (queue.named(plan.discarded if best else plan.preempted), queue.named(plan.admitted)) == ("a", "1")
    other.finish(FinishReason.STOP)
    assert queue.admitted() == "a"


def test_a_background_stream_gives_way_though_there_is_no_memory_to_keep_it() -> None:
    queue = Queue(max_rows=1, max_batch_size=1)
    (first,) = queue.add("a", background=True)
    assert queue.admitted() == "a"
    first.ids = [1, 2]
    queue.add("1")
    plan = queue.schedule()
    assert (queue.named(plan.discarded), queue.named(plan.admitted), first.ids) == ("a", "1", [])


@pytest.mark.parametrize(
    ("searches", "best", "discarded"), [(False, False, "c"), (False, True, "cba"), (True, False, "a")]
)
def test_where_a_user_has_a_slot_and_no_memory_the_background_gives_its_own_away(
    searches: bool, best: bool, discarded: str
) -> None:
    """M2, on a small machine and after memory ran out: he waited for the end of a caption that nobody watched."""
    queue = Queue(max_rows=5 if best or searches else 3, max_batch_size=8)
    queue.add("a" if searches else "abc", background=True, best=searches)
    queue.schedule()
    queue.add("1", best=best)
    plan = queue.schedule()
    assert (queue.named(plan.discarded), queue.named(plan.admitted)) == (discarded, "1")


def test_the_background_gives_away_the_memory_of_what_waits_first() -> None:
    queue = Queue(max_rows=4, max_batch_size=3)
    queue.add("a", background=True)
    queue.schedule()
    queue.add("xyz")
    assert queue.named(queue.schedule().preempted) == "a"
    kept = queue.scheduler.background[0]
    queue.scheduler.running[0].finish(FinishReason.STOP)
    queue.add("s", best=True)
    queue.schedule()
    assert kept.status is Status.WAITING
    assert queue.named(queue.scheduler.running) == "yz"


def test_with_a_fill_share_sequences_come_once_half_of_the_batch_is_free() -> None:
    queue = Queue(max_batch_size=4, max_prefill_tokens=99, min_free_share=0.5)
    queue.add("abcdef")
    assert queue.admitted() == "abcd"
    queue.scheduler.running[0].finish(FinishReason.STOP)
    assert queue.admitted() == ""
    queue.scheduler.running[0].finish(FinishReason.STOP)
    assert queue.admitted() == "ef"


def test_everyone_is_served_whatever_comes() -> None:
    rng, queue = random.Random(1), Queue(max_batch_size=4, max_rows=14)
    left: dict[Sequence, int] = {}
    for number in range(200):
        kind = {"background": rng.random() < 0.3, "best": rng.random() < 0.3}
        (sequence,) = queue.add(chr(number), length=rng.randint(1, 40), **kind)
        left[sequence] = rng.randint(1, 60)
    for _ in range(50_000):
        if all(sequence.status is Status.FINISHED for sequence in left):
            break
        queue.schedule()
        streams = [one for one in queue.scheduler.running if not one.uses_beam_search]
        assert len(streams) <= 4
        assert len(queue.scheduler.running) - len(streams) <= 2
        for sequence in queue.scheduler.running:
            sequence.ids.append(1)
            if len(sequence.ids) >= left[sequence]:
                sequence.finish(FinishReason.STOP)
    assert {sequence.status for sequence in left} == {Status.FINISHED}
