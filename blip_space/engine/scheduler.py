"""Which sequences run in the next step: a queue, a bounded number of rows, and a bounded prefill.

Streams and beam searches have separate bounds, so neither waits for a slot that only the other could use. Background
sequences have a queue of their own: they are admitted where no other waits, leave half of the slots free, and give
theirs, and their memory, up as soon as another finds none.

Pure: depends on sequences only; must not import torch, and has no clock.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field

from blip_space.engine.request import EngineConfig
from blip_space.engine.sequence import FinishReason, Sequence, Status


@dataclass(frozen=True)
class Plan:
    """What one step does, in this order: rows are removed, sequences preempted, those that run get a token, and others
    are admitted. A preempted sequence keeps its keys and values; a discarded one starts again."""

    removed: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    discarded: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)


class Scheduler:
    """First come, first served, within `max_rows` rows of keys and values, those of preempted sequences included, and
    within `max_positions`, each row as long as the longest can become."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        max_rows: int,
        max_positions: int,
        reserved_positions: Callable[[int, int], int] = operator.mul,
    ) -> None:
        """`reserved_positions` says how many the buffers of so many rows have, of which the longest has that many."""
        self._config = config
        self._reserved_positions = reserved_positions
        self._max_rows = max_rows
        self._max_positions = max_positions
        self.row_limit = max_rows
        """Less than `max_rows` for a while after memory ran out."""

        self._limited_at = 0.0
        self.waiting: list[Sequence] = []
        self.background: list[Sequence] = []
        """Background sequences that wait."""

        self.running: list[Sequence] = []

    def set_limits(self, max_rows: int, max_positions: int) -> None:
        """From here on so much fits into memory."""
        self._max_rows = self.row_limit = max_rows
        self._max_positions = max_positions

    def add(self, sequence: Sequence) -> None:
        """Put it at the end of its queue."""
        self._queue(sequence).append(sequence)

    def schedule(self, *, now: float, admit: bool = True) -> Plan:
        """What the next step does; the admitted are running from here on.

        With `admit` false nobody comes in. `now` is in seconds.
        """
        over = any(sequence.is_cancelled or sequence.status is Status.FINISHED for sequence in self.running)
        if not (over or self.waiting or self.background):
            return Plan()  # as most steps are
        self._grow(now)
        removed = self._remove_finished()
        if not admit:
            return Plan(removed)
        preempted, discarded = self._preempt()
        return Plan(removed, preempted, discarded, self._admit())

    def reduce_row_limit(self, now: float) -> bool:
        """After memory ran out: half of the rows that there were. False where there was one answer alone already."""
        self._limited_at = now
        before = min(self.row_limit, sum(sequence.num_rows for sequence in self.running))
        self.row_limit = max(1, before // 2)
        return len(self.running) > 1

    def requeue_all(self) -> list[Sequence]:
        """Everything that had begun goes back to the head of its queue, in its order, to start again; returned."""
        begun = [*self.running, *(sequence for sequence in self.waiting if sequence.status is Status.PREEMPTED)]
        begun += [sequence for sequence in self.background if sequence.status is Status.PREEMPTED]
        self.running = []
        for sequence in reversed(begun):
            queue = self._queue(sequence)
            if sequence.status is Status.PREEMPTED:
                queue.remove(sequence)
            if sequence.status is not Status.FINISHED:
                sequence.restart()
                queue.insert(0, sequence)
        return begun

    def _grow(self, now: float) -> None:
        """One row more for each quiet time, until there are as many as before."""
        quiet = int((now - self._limited_at) // self._config.recovery_seconds)
        if quiet and self.row_limit < self._max_rows:
            self.row_limit = min(self._max_rows, self.row_limit + quiet)
            self._limited_at += quiet * self._config.recovery_seconds

    def _remove_finished(self) -> list[Sequence]:
        """Take finished and cancelled sequences out of every list; those among them that have rows."""
        for sequence in (*self.running, *self.waiting, *self.background):
            if sequence.is_cancelled and sequence.status is not Status.FINISHED:
                sequence.finish(FinishReason.CANCELLED)
        removed = [sequence for sequence in self.running if sequence.status is Status.FINISHED]
        if removed:
            self.running = _unfinished(self.running)
        self.waiting, self.background = _unfinished(self.waiting), _unfinished(self.background)
        return removed

    def _preempt(self) -> tuple[list[Sequence], list[Sequence]]:
        """Background sequences, then those that used up their time slice, longest first, while others of their kind
        wait and no slot is free: no more than wait. They stand in a queue again, background ones at its head."""
        preempted, discarded = list[Sequence](), list[Sequence]()
        coming = self._coming()
        longest = max((one.max_length for one in (*self._with_rows(), *coming)), default=0)
        for searches in (False, True):
            waiting = sum(sequence.uses_beam_search == searches for sequence in coming)
            free = self._free_slots(searches)
            rows = self._rows() + min(waiting, free)
            for sequence in self._preemptible(searches)[: max(0, waiting - free)]:
                keeps = not searches and self._fits(rows + len(preempted) + 1, longest)
                if not keeps and not sequence.is_background:
                    break  # there is no memory for its keys and values beside another's, so it goes on
                self._leave(sequence)
                (preempted if keeps else discarded).append(sequence)
                if not keeps:
                    sequence.restart()
        return preempted, discarded + self._free_rows(preempted)

    def _coming(self) -> list[Sequence]:
        """Those that wait before the first that has a slot and no memory: until it has, no other comes."""
        free = {searches: self._free_slots(searches) > 0 for searches in (False, True)}
        short = (one for one in self.waiting if free[one.uses_beam_search] and not self._has_rows(one))
        first = next(short, None)
        return self.waiting if first is None else self.waiting[: self.waiting.index(first)]

    def _free_rows(self, preempted: list[Sequence]) -> list[Sequence]:
        """Where somebody has a slot and no memory, background sequences start again, those that wait with keys and
        values first; those of them that ran."""
        first = next((one for one in self.waiting if self._free_slots(one.uses_beam_search) > 0), None)
        if first is None:
            return []
        idle = [one for one in self.background if one.status is Status.PREEMPTED and one not in preempted]
        discarded = list[Sequence]()
        for sequence in (*idle, *(one for one in reversed(self.running) if one.is_background)):
            if self._has_rows(first):
                break
            if sequence.status is Status.RUNNING:
                self._leave(sequence)
                discarded.append(sequence)
            sequence.restart()
        return discarded

    def _preemptible(self, searches: bool) -> list[Sequence]:
        """Who gives way to a stream, or to a beam search; of those only background ones do."""
        own = [sequence for sequence in self.running if sequence.uses_beam_search == searches]
        background = [sequence for sequence in own if sequence.is_background]
        if searches:
            return background
        slice_ended = self._config.time_slice_tokens
        served = [one for one in own if not one.is_background and one.tokens_since_admission >= slice_ended]
        return [*background, *sorted(served, key=lambda sequence: -sequence.tokens_since_admission)]

    def _leave(self, sequence: Sequence) -> None:
        self.running = [other for other in self.running if other is not sequence]
        sequence.status = Status.PREEMPTED
        if sequence.is_background:
            self.background.insert(0, sequence)  # so that no more are ever incomplete than there are slots
        else:
            self.waiting.append(sequence)

    def _admit(self) -> list[Sequence]:
        """The first in the queues whose prompts are prefilled in this step.

        Nobody overtakes a sequence of the same kind, and where memory is short, only who has his already is admitted
        before the one that it is short for. Beside others one background sequence is admitted at a time, since they
        wait while its image is encoded.
        """
        admitted = list[Sequence]()
        if not self._is_worth_a_prefill():
            return admitted
        left = self._config.max_prefill_tokens
        full, is_short = set[bool](), False
        for sequence in self.waiting or self.background:
            if full == {False, True}:
                break
            searches = sequence.uses_beam_search
            if searches in full or self._free_slots(searches, background=sequence.is_background) < 1:
                full.add(searches)
                continue
            if (is_short and sequence.status is not Status.PREEMPTED) or not self._has_rows(sequence):
                is_short = True
                continue
            length = 0 if sequence.status is Status.PREEMPTED else sequence.uncached_tokens
            if admitted and (length > left or (sequence.is_background and self._serves_others())):
                break
            left -= length
            sequence.status, sequence.admitted_length = Status.RUNNING, len(sequence.ids)
            admitted.append(sequence)
            self.running.append(sequence)
        if admitted:
            queue = self._queue(admitted[0])
            queue[:] = [sequence for sequence in queue if sequence.status is not Status.RUNNING]
        return admitted

    def _is_worth_a_prefill(self) -> bool:
        """Whether enough of the batch is free; always where `min_free_share` is 0."""
        share = self._config.min_free_share
        return not share or not self.running or self._rows() <= (1 - share) * self._config.max_batch_size

    def _has_rows(self, sequence: Sequence) -> bool:
        """Whether there is memory for it; one alone is always tried."""
        if self.running and (sequence.runs_alone or self.running[0].runs_alone):
            return False
        if sequence.status is Status.PREEMPTED:
            return True  # its rows are there
        rows = self._rows()
        if not rows:
            return True
        rows += sequence.num_rows
        return self._fits(rows, max(one.max_length for one in (*self._with_rows(), sequence)))

    def _fits(self, rows: int, longest: int) -> bool:
        """Whether there is memory for so many rows, each of that length."""
        return rows <= self.row_limit and self._reserved_positions(rows, longest) <= self._max_positions

    def _rows(self) -> int:
        """How many rows of keys and values there are."""
        return sum(sequence.num_rows for sequence in self._with_rows())

    def _with_rows(self) -> list[Sequence]:
        """Those that run, and those that are preempted, which have one row each."""
        waiting = (one for one in (*self.waiting, *self.background) if one.status is Status.PREEMPTED)
        return [*self.running, *waiting]

    def _free_slots(self, searches: bool, *, background: bool = False) -> int:
        most = self._config.max_beam_groups if searches else self._config.max_batch_size
        own = [sequence for sequence in self.running if sequence.uses_beam_search == searches]
        free = most - len(own)
        if background:
            free = min(free, max(1, most // 2) - sum(sequence.is_background for sequence in own))
        return free

    def _serves_others(self) -> bool:
        return not all(sequence.is_background for sequence in self.running)

    def _queue(self, sequence: Sequence) -> list[Sequence]:
        return self.background if sequence.is_background else self.waiting


def _unfinished(sequences: list[Sequence]) -> list[Sequence]:
    """Those that are not finished; the same list where all are."""
    if any(sequence.status is Status.FINISHED for sequence in sequences):
        return [sequence for sequence in sequences if sequence.status is not Status.FINISHED]
    return sequences
