"""Decides which sequences run in the next step, within limits of rows, of memory and of prefill.

Callers take turns: the next sequence is of the caller with the fewest running ones, and a caller with more than its
share loses slots and memory to one with fewer. Streams and beam searches have separate limits, so neither waits for a
slot that only the other could use. Background sequences have their own queue: they are admitted only if no other
sequence waits, leave half of the slots free, and give up their slots and memory as soon as another sequence needs them.

Depends on sequences only. Must not import torch; has no clock.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from collections.abc import Sequence as List

from blip_space.engine.fairness import Shares, in_turn
from blip_space.engine.memory_limits import MemoryLimits
from blip_space.engine.plan import Plan
from blip_space.engine.preemption import evictable, preemptible
from blip_space.engine.request import EngineConfig
from blip_space.engine.sequence import FinishReason, Sequence, Status


class Scheduler:
    """Admits sequences in turn, within `max_rows` rows of keys and values, preempted ones included, and within
    `max_positions`, for which each row counts as long as the longest may become."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        max_rows: int,
        max_positions: int,
        reserved_positions: Callable[[int, int], int] = operator.mul,
    ) -> None:
        """`reserved_positions(rows, longest)` returns how many positions the buffers of such rows have."""
        self._config = config
        self.memory = MemoryLimits(config, max_rows, max_positions, reserved_positions)
        self._is_filling = True
        """With `min_free_share`: whether the batch is filled, until it is full, or decodes until that share is free."""

        self.waiting: list[Sequence] = []
        self.background: list[Sequence] = []
        """The waiting background sequences."""

        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Append a sequence to its queue."""
        self._queue(sequence).append(sequence)

    def schedule(self, *, now: float, admit: bool = True) -> Plan:
        """Plan the next step; the admitted sequences count as running from here on.

        `now` is a time in seconds. If `admit` is false, no sequence is admitted or preempted.
        """
        has_ended = any(sequence.is_cancelled or sequence.status is Status.FINISHED for sequence in self.running)
        if not (has_ended or self.waiting or self.background):
            return Plan()  # as in most steps
        if self.waiting or self.background:
            self.memory.recover(now)
        removed = self._remove_finished()
        if not (admit and self._fills_batch()):
            return Plan(removed)
        preempted, discarded = self._preempt()
        admitted, admits_more = self._admit()
        return Plan(removed, preempted, discarded, admitted, admits_more)

    def requeue_all(self) -> list[Sequence]:
        """Restart all running and preempted sequences at the head of their queues, in order, and return them."""
        started = [*self.running, *_preempted(self.waiting), *_preempted(self.background)]
        self.running = []
        for sequence in reversed(started):
            queue = self._queue(sequence)
            if sequence.status is Status.PREEMPTED:
                queue.remove(sequence)
            if sequence.status is not Status.FINISHED:
                sequence.restart()
                queue.insert(0, sequence)
        return started

    def _remove_finished(self) -> list[Sequence]:
        """Remove finished and cancelled sequences from every list; returns those that were running."""
        for sequence in (*self.running, *self.waiting, *self.background):
            if sequence.is_cancelled and sequence.status is not Status.FINISHED:
                sequence.finish(FinishReason.CANCELLED)
        removed = [sequence for sequence in self.running if sequence.status is Status.FINISHED]
        if removed:
            self.running = _without_finished(self.running)
        self.waiting, self.background = _without_finished(self.waiting), _without_finished(self.background)
        return removed

    def _preempt(self) -> tuple[list[Sequence], list[Sequence]]:
        """For each sequence that waits without a free slot, preempt another of its kind, if one has to give up its
        slot. Returns the preempted and the discarded ones."""
        preempted, discarded = list[Sequence](), list[Sequence]()
        candidates = self._admissible()
        longest = max((sequence.max_length for sequence in (*self._with_rows(), *candidates)), default=0)
        shares = Shares(sequence for sequence in self.running if not sequence.is_background)
        time_slice = self._config.time_slice_tokens
        for beam_search in (False, True):
            waiting = [sequence for sequence in candidates if sequence.uses_beam_search == beam_search]
            free = max(0, self._free_slots(beam_search))
            rows = self._rows() + min(len(waiting), free)
            for index, sequence in enumerate(waiting):
                if index >= free:
                    keeps_row = not beam_search and self.memory.fits(rows + len(preempted) + 1, longest)
                    other = preemptible(self.running, sequence, shares, time_slice=time_slice, keeps_row=keeps_row)
                    if other is None:
                        continue  # it waits for the end of another
                    self._stop_running(other, keeps_row=keeps_row)
                    (preempted if keeps_row else discarded).append(other)
                    if not other.is_background:
                        shares.remove(other)
                shares.add(sequence)
        return preempted, discarded + self._free_memory(preempted)

    def _admissible(self) -> List[Sequence]:
        """The waiting sequences before the first one that has a slot but no memory, which blocks all behind it."""
        has_slot = {beam_search: self._free_slots(beam_search) > 0 for beam_search in (False, True)}
        waiting = in_turn(self.waiting, self.running)
        for index, sequence in enumerate(waiting):
            if has_slot[sequence.uses_beam_search] and not self._has_memory(sequence):
                return waiting[:index]
        return waiting

    def _free_memory(self, preempted: list[Sequence]) -> list[Sequence]:
        """If the first waiting sequence with a free slot lacks memory, restart others until there is enough. Returns
        those that were running."""
        first = next(
            (one for one in in_turn(self.waiting, self.running) if self._free_slots(one.uses_beam_search) > 0), None
        )
        if first is None:
            return []
        idle = [sequence for sequence in self._with_rows()[len(self.running) :] if sequence not in preempted]
        shares = Shares(sequence for sequence in self._with_rows() if not sequence.is_background)
        discarded = list[Sequence]()
        for sequence in evictable(self.running, idle, first, shares):
            if self._has_memory(first):
                break
            if sequence.status is Status.RUNNING:
                self._stop_running(sequence, keeps_row=False)
                discarded.append(sequence)
            else:
                sequence.restart()
        return discarded

    def _stop_running(self, sequence: Sequence, *, keeps_row: bool) -> None:
        self.running = [other for other in self.running if other is not sequence]
        sequence.status = Status.PREEMPTED
        if not keeps_row:
            sequence.restart()
        if sequence.is_background:
            self.background.insert(0, sequence)  # so that there are never more incomplete ones than slots
        else:
            self.waiting.append(sequence)

    def _admit(self) -> tuple[list[Sequence], bool]:
        """Admit the first sequences of a queue, up to the limits of slots, memory and prefill.

        None overtakes another of its kind whose turn is before. While a sequence waits for memory, only preempted ones,
        which hold their memory already, are admitted before it. While users' sequences run, background ones are
        admitted one at a time, since the users wait while an image is encoded. Also returns whether the next step
        admits others.
        """
        admitted, admits_more = list[Sequence](), False
        budget = self._config.max_prefill_tokens
        full, is_short_of_memory = set[bool](), False
        for sequence in in_turn(self.waiting or self.background, self.running):
            # 1. Slots: streams and beam searches have their own.
            if full == {False, True}:
                break
            kind = sequence.uses_beam_search
            if kind in full or self._free_slots(kind, background=sequence.is_background) < 1:
                full.add(kind)
                continue
            # 2. Memory, which a preempted sequence holds already.
            is_preempted = sequence.status is Status.PREEMPTED
            if (is_short_of_memory and not is_preempted) or not self._has_memory(sequence):
                is_short_of_memory = True
                continue
            # 3. The step's prefill budget; a prompt that exceeds it is admitted alone.
            length = 0 if is_preempted else sequence.uncached_tokens
            is_beside_users = sequence.is_background and not all(other.is_background for other in self.running)
            if admitted and (length > budget or is_beside_users):
                admits_more = not is_beside_users
                break
            budget -= length
            sequence.status, sequence.admitted_length = Status.RUNNING, len(sequence.ids)
            admitted.append(sequence)
            self.running.append(sequence)
        if full or is_short_of_memory or self._rows() >= self._config.max_batch_size:
            self._is_filling = False
        if admitted:
            queue = self._queue(admitted[0])
            queue[:] = [sequence for sequence in queue if sequence.status is not Status.RUNNING]
        return admitted, admits_more or (self._config.min_free_share > 0 and self._is_filling)

    def _fills_batch(self) -> bool:
        """Whether sequences are admitted or preempted: always without `min_free_share`. With it, once that share of the
        batch is free or nothing runs, and from then on until the batch is full."""
        share = self._config.min_free_share
        if not share or not self.running or self._rows() <= (1 - share) * self._config.max_batch_size:
            self._is_filling = True
        return self._is_filling

    def _has_memory(self, sequence: Sequence) -> bool:
        """Whether a sequence fits in memory beside the others and none must run alone; always if there are no
        others."""
        if self.running and (sequence.runs_alone or self.running[0].runs_alone):
            return False
        if sequence.status is Status.PREEMPTED:
            return True  # holds its memory already
        rows = self._rows()
        if not rows:
            return True
        longest = max(other.max_length for other in (*self._with_rows(), sequence))
        return self.memory.fits(rows + sequence.num_rows, longest)

    def _rows(self) -> int:
        """The number of rows that have keys and values."""
        return sum(sequence.num_rows for sequence in self._with_rows())

    def _with_rows(self) -> list[Sequence]:
        """All sequences that have keys and values: the running ones, and the preempted ones."""
        return [*self.running, *_preempted(self.waiting), *_preempted(self.background)]

    def _free_slots(self, beam_search: bool, *, background: bool = False) -> int:
        slots = self._config.max_beam_groups if beam_search else self._config.max_batch_size
        running = [sequence for sequence in self.running if sequence.uses_beam_search == beam_search]
        free = slots - len(running)
        if background:
            free = min(free, max(1, slots // 2) - sum(sequence.is_background for sequence in running))
        return free

    def _queue(self, sequence: Sequence) -> list[Sequence]:
        return self.background if sequence.is_background else self.waiting


def _preempted(queue: list[Sequence]) -> list[Sequence]:
    return [sequence for sequence in queue if sequence.status is Status.PREEMPTED]


def _without_finished(sequences: list[Sequence]) -> list[Sequence]:
    return [sequence for sequence in sequences if sequence.status is not Status.FINISHED]
