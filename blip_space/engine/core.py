"""The engine core: many requests in, their answers out, one step at a time.

It owns its scheduler, its caches and its batch. It has no thread and no clock: `add` and `cancel` may come from any
thread, `step` from one. Must not import serving or anything of a page.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from typing import Any

from blip_space.engine.answer_check import check_answer
from blip_space.engine.detokenizer import Detokenizer
from blip_space.engine.model_runner import ModelRunner
from blip_space.engine.output import ANSWER_FAILED, OUT_OF_MEMORY, Output
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.scheduler import Scheduler
from blip_space.engine.sequence import FinishReason, Sequence, Status
from blip_space.errors import BusyError, UserError
from blip_space.loading.memory import is_out_of_memory, kv_positions

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 2
"""An answer that a fault of the whole batch ended is generated again so often, the first time included."""

_ids = itertools.count(1)


class EngineCore:
    """One model, and all requests for it."""

    def __init__(self, model: Any, config: EngineConfig | None = None) -> None:
        """`model` is a `VisionLanguageModel`."""
        self.model = model
        self.config = config or EngineConfig()
        self.restarts = 0
        """How often the batch had to be begun again."""

        self._runner = ModelRunner(model, self.config)
        self._scheduler = Scheduler(self.config, **self._limits(), reserved_positions=self._runner.reserved_positions)
        self._stops = model.stop_strings
        self._arrived: deque[Sequence] = deque()
        self._sequences: dict[int, Sequence] = {}

    def add(self, request: PreparedRequest) -> int:
        """Put a request in the queue; its id. From any thread."""
        sequence = Sequence(next(_ids), request, Detokenizer(self.model.decode, self._stops))
        self._sequences[sequence.id] = sequence
        self._arrived.append(sequence)
        return sequence.id

    def cancel(self, request_id: int) -> None:
        """Nobody wants the rest; it frees its rows in the next step, and no output comes. From any thread."""
        if sequence := self._sequences.pop(request_id, None):
            sequence.is_cancelled = True

    def step(self, now: float, *, admit: bool = True) -> list[Output]:
        """One token for everybody who runs, and the first for those who are admitted; what is new of their text.

        `now` is a time in seconds that only grows. With `admit` false nobody comes in.
        """
        try:
            if self._arrived:
                self._arrive()
            plan = self._scheduler.schedule(now=now, admit=admit)
            self._runner.run(plan)
        except Exception as error:
            return self._recover(error, now)
        return self._settle()

    @property
    def has_work(self) -> bool:
        """Whether another step would do anything."""
        scheduler = self._scheduler
        return bool(self._arrived or scheduler.running or scheduler.waiting or scheduler.background)

    @property
    def waiting(self) -> int:
        """How many requests wait, those of the background apart."""
        return sum(not one.is_background and not one.is_cancelled for one in self._queued())

    @property
    def background(self) -> int:
        """How many background requests wait."""
        return sum(one.is_background and not one.is_cancelled for one in self._queued())

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return len(self._scheduler.running)

    def fit_memory(self, share: float) -> None:
        """Take a share of the memory that is free now for keys and values. From `step`'s thread, while nothing runs."""
        self._scheduler.set_limits(**self._limits(share))

    @property
    def row_limit(self) -> int:
        """How many rows of keys and values there may be now."""
        return self._scheduler.row_limit

    @property
    def cached_bytes(self) -> int:
        """How much memory is given back when the core is dropped, that of its model and of what runs apart."""
        return self._runner.image_features.bytes + self._runner.prefixes.bytes

    @property
    def image_feature_hits(self) -> int:
        """How many images were not encoded twice."""
        return self._runner.image_features.hits

    @property
    def prefix_hits(self) -> int:
        """How many later turns were continued from cached keys and values."""
        return self._runner.prefixes.hits

    def queue_position(self, request_id: int) -> int | None:
        """How many wait before this one; None where it does not wait, or is of the background. From any thread."""
        queue = (one for one in self._queued() if not one.is_background and not one.is_cancelled)
        return next((index for index, sequence in enumerate(queue) if sequence.id == request_id), None)

    def abort_all(self) -> tuple[list[int], list[int]]:
        """Drop everything; the ids of those that ran, and of those that waited, each in their order. From `step`'s
        thread."""
        self._arrive()
        scheduler = self._scheduler
        ran, waited = _unfinished(scheduler.running), _unfinished([*scheduler.waiting, *scheduler.background])
        scheduler.running, scheduler.waiting, scheduler.background = [], [], []
        self._runner.reset()
        self._sequences.clear()
        return ran, waited

    def _limits(self, share: float = 1.0) -> dict[str, int]:
        """How many rows there may be, and how many positions of keys and values."""
        positions = max(1, int(kv_positions(self.model) * share))
        return {"max_rows": self.config.max_rows or positions, "max_positions": positions}

    def _queued(self) -> list[Sequence]:
        """All that wait, in their order. From any thread."""
        return [*self._scheduler.waiting, *self._scheduler.background, *tuple(self._arrived)]

    def _arrive(self) -> None:
        while self._arrived:
            sequence = self._arrived[0]
            sequence.uncached_tokens = self._runner.uncached_tokens(sequence.request)
            self._scheduler.add(sequence)
            self._arrived.popleft()

    def _settle(self) -> list[Output]:
        """What is new of every sequence that ran."""
        return [output for sequence in self._scheduler.running if (output := self._output(sequence))]

    def _output(self, sequence: Sequence) -> Output | None:
        if sequence.id not in self._sequences:  # cancelled, or finished in an earlier step
            return None
        try:
            if sequence.error is not None:
                raise sequence.error
            if sequence.status is Status.FINISHED:
                return self._finished(sequence, sequence.detokenizer.finish(sequence.ids))
            if sequence.beam_search is not None or len(sequence.ids) == sequence.published_tokens:
                return None
            sequence.published_tokens = len(sequence.ids)
            visible = sequence.detokenizer.extend(sequence.ids)
            if visible.stopped:
                sequence.finish(FinishReason.STOP)
                return self._finished(sequence, visible)
            if len(visible.text) < sequence.published_characters:  # it was begun again, and is not as far yet
                return None
            sequence.published_characters = len(visible.text)
            return Output(sequence.id, visible.text, len(sequence.ids))
        except Exception as error:
            return self._failed(sequence, error)

    def _finished(self, sequence: Sequence, visible: Any) -> Output:
        judged = check_answer(visible, sequence.ids, max_new_tokens=sequence.request.options.max_new_tokens)
        self._sequences.pop(sequence.id, None)
        return Output(sequence.id, judged.text, judged.tokens, finished=True, repeats=judged.repeats)

    def _failed(self, sequence: Sequence, error: Exception) -> Output:
        if not isinstance(error, UserError):
            log.error("a request failed", exc_info=error)
            error = UserError(ANSWER_FAILED)
        sequence.fail(error.with_traceback(None))  # its frames would keep the request until some later collection
        self._sequences.pop(sequence.id, None)
        return Output(sequence.id, "", len(sequence.ids), finished=True, error=error)

    def _recover(self, error: Exception, now: float) -> list[Output]:
        """After a fault of the whole step: begin all its answers again, in a smaller batch if memory ran out.

        One that is alone in the batch when it happens for the second time has no answer.
        """
        log.error("the batch failed and is begun again", exc_info=error)
        self.restarts += 1
        exhausted = is_out_of_memory(error)
        smaller = exhausted and self._scheduler.reduce_row_limit(now)
        self._runner.reset()
        if exhausted:
            self._runner.clear_caches()
            log.warning("memory ran out; from here on %d rows are decoded at once", self._scheduler.row_limit)
        outputs, ran = self._settle(), set(self._scheduler.running)
        for sequence in self._scheduler.requeue_all():
            if smaller or sequence not in ran or sequence.status is Status.FINISHED:
                continue
            sequence.attempts += 1
            if sequence.attempts >= MAX_ATTEMPTS:
                outputs.append(
                    self._failed(sequence, BusyError(OUT_OF_MEMORY) if exhausted else UserError(ANSWER_FAILED))
                )
        return outputs


def _unfinished(sequences: list[Sequence]) -> list[int]:
    """The ids of those that somebody still waits for."""
    return [one.id for one in sequences if not one.is_cancelled and one.status is not Status.FINISHED]
