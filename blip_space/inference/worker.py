"""What the worker's thread does: every iteration lets rows go, writes one token of every row, and lets newcomers in.

A search runs between iterations, and lets one happen at each of its own steps, so streams go on beside it. Knows jobs,
the scheduler and a model; knows no thread: whoever calls `iterate` is the only one who touches the model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from blip_space.errors import BusyError, UserError
from blip_space.serving.metrics import Metrics
from blip_space.inference.job import Job, prompts
from blip_space.inference.request import search_options
from blip_space.inference.residence import Residence
from blip_space.inference.scheduler import Scheduler
from blip_space.options import GenerationOptions

if TYPE_CHECKING:
    from blip_space.model.blip2 import Blip2
    from blip_space.model.features import PrefixCache
    from blip_space.model.writing import Writing

log = logging.getLogger(__name__)

FAULT = "The answer failed through a fault of the server, which is in its log. Try again."
EXHAUSTED = "The server ran out of memory for this answer. Ask again in a while, or for fewer new tokens."
MOST_TRIES = 2
"""An answer that was thrown out by a fault of the whole batch is written again so often, the first time included."""

MOST_SEARCHES = 4
"""So many searches go on together; each has as many rows as beams."""


class Worker:
    """The engine's hands."""

    def __init__(
        self,
        scheduler: Scheduler[Job],
        lock: AbstractContextManager[object],
        residence: Residence,
        counters: Metrics,
        prefixes: PrefixCache,
    ) -> None:
        """`lock` guards the scheduler, which other threads look at and put jobs into."""
        self._scheduler = scheduler
        self._lock = lock
        self._residence = residence
        self._counters = counters
        self._prefixes = prefixes
        self._most_rows = scheduler.most_rows
        self._measured: Blip2 | None = None
        self._writing: Writing | None = None
        self._searches: list[Job] = []
        self._stopping = False

    def iterate(self) -> None:
        """One turn: out, one token each, in; then a search, if one is wanted."""
        model = self._advance()
        if model is not None and self._searches:
            self._search(model)

    def give_up(self, error: UserError) -> None:
        """End every job that is being written with this error; the rows are gone."""
        self._writing, self._searches = None, []
        with self._lock:
            running, self._scheduler.running = self._scheduler.running, []
        for job in running:
            job.answer.fail(error)

    def stop(self) -> None:
        """Let a search that is going on end at its next step. From any thread."""
        self._stopping = True

    def _advance(self) -> Blip2 | None:
        """Everything of an iteration but searches; the model that they would be for, if there is one."""
        model = self._let_go_and_find()
        if model is None:
            return None
        self._make_room()
        try:
            if self._writing is not None:
                self._writing.step()
                self._tell(model)  # whose answer is whole gives his place to who waits for one
                self._writing.leave([row for row in self._writing.rows if row.ended])
            newcomers = self._admit(model)
            self._searches += [job for job in newcomers if job.searches]
            self._join(model, [job for job in newcomers if not job.searches])
        except Exception as error:
            self._recover(model, error)
        self._tell(model)
        return model

    def _let_go_and_find(self) -> Blip2 | None:
        with self._lock:
            gone = self._scheduler.sweep()
            first = self._scheduler.first()
        if self._writing is not None:
            self._writing.leave([job.row for job in gone if job.row])
        self._searches = [job for job in self._searches if job not in gone]
        if first is None:
            return None
        try:
            if self._residence.model is None or self._residence.model.spec.name != first.model:
                self._forget_rows()
            model = self._residence.resident(first.spec)
        except UserError as error:
            first.answer.fail(error)  # the next iteration sweeps it out of its line
            return None
        if model is not self._measured:
            self._measured = model
            self._scheduler.most_rows = min(self._most_rows, model.rows_that_fit())
        return model

    def _forget_rows(self) -> None:
        """Before another model comes: what waits in the middle of an answer of this one's is begun anew later."""
        self._writing = None
        with self._lock:
            for job in self._scheduler.in_line():
                job.begin_again()

    def _make_room(self) -> None:
        """Set aside who has had a turn, where others wait for a place."""
        with self._lock:
            aside = self._scheduler.step_aside()
        for job in aside:
            assert self._writing is not None
            assert job.row is not None
            job.parked = self._writing.park(job.row)

    def _admit(self, model: Blip2) -> list[Job]:
        """Those whose turn it is and whose prompt fits the window."""

        def positions(job: Job) -> int:
            try:
                return job.compose(model)
            except UserError as error:
                job.answer.fail(error)
            except Exception:
                log.exception("a prompt was not composed")
                job.answer.fail(UserError(FAULT))
            return 0

        with self._lock:
            if self._scheduler.next_model() != model.spec.name:
                return []  # the last of this model's answers is whole, and the next iteration changes models
            admitted = self._scheduler.admit(positions)
            for job in admitted:
                if job.over:
                    self._scheduler.leave(job)
        return [job for job in admitted if not job.over]

    def _join(self, model: Blip2, jobs: Sequence[Job]) -> None:
        """Read the newcomers' prompts together; if that fails, each alone, so that a fault ends its own job only."""
        if self._writing is None:
            self._writing = model.writing()
        for job in jobs:
            if job.parked and job.row:
                self._writing.resume(job.parked)
                job.parked, job.begun = None, len(job.row.ids)
        jobs = [job for job in jobs if job.row is None]
        if not jobs:
            return
        try:
            rows = self._writing.join(prompts(model, jobs, self._prefixes))
        except Exception as error:
            if model.ran_out(error):
                raise
            if len(jobs) > 1:
                for job in jobs:
                    self._join(model, [job])
                return
            self._end(jobs[0], error)
            return
        for job, row in zip(jobs, rows, strict=True):
            job.row = row

    def _tell(self, model: Blip2) -> None:
        """Show whom it concerns what is new, and let go whose answer is whole."""
        fresh = 0
        with self._lock:
            running = list(self._scheduler.running)
        for job in running:
            if job.row is None or (len(job.row.ids) == job.seen and not job.row.ended):
                continue
            if not job.seen and job.row.ids and not job.guest:
                self._counters.add_first_token(time.monotonic() - job.since)
            fresh += len(job.row.ids) - job.seen
            job.seen = len(job.row.ids)
            try:
                if job.row.fault:
                    raise job.row.fault
                if job.tell(model):
                    self._finish(job)
            except Exception as error:
                self._end(job, error)
        if fresh:
            self._counters.add_tokens(fresh)

    def _search(self, model: Blip2) -> None:
        """The oldest searches of one kind, together; guests' where there is no visitor's."""
        first = next((job for job in self._searches if not job.guest), self._searches[0])
        jobs = [job for job in self._searches if _kind(job) == _kind(first)][:MOST_SEARCHES]

        def should_stop() -> bool:
            self._advance()
            return self._stopping or all(job.over for job in jobs)

        self._searches = [job for job in self._searches if job not in jobs]
        try:
            found = model.search(prompts(model, jobs, self._prefixes), should_stop=should_stop)
            if self._stopping:
                return  # what was found by then is no whole answer; whoever waits hears why
            for job, ids in zip(jobs, found, strict=True):
                self._conclude(model, job, ids)
        except Exception as error:
            if model.ran_out(error) and len(jobs) > 1:
                self._searches = [*jobs, *self._searches]
                self._search_alone(model)
                return
            for job in jobs:
                self._end(job, error)

    def _conclude(self, model: Blip2, job: Job, ids: list[int]) -> None:
        """What a search found for one of its jobs; what is wrong with it ends that job alone."""
        if job.over:
            return  # its beams may have been cut short, and nobody waits for them; the next iteration forgets it
        try:
            job.tell_found(model, ids)
        except Exception as error:
            self._end(job, error)
        else:
            self._finish(job)

    def _search_alone(self, model: Blip2) -> None:
        waiting, self._searches = self._searches, []
        for job in waiting:
            self._searches.append(job)
            self._search(model)

    def _recover(self, model: Blip2, error: Exception) -> None:
        """After a fault of the whole batch: write all its rows again, fewer at once if memory ran out."""
        exhausted = model.ran_out(error)
        log.error("the batch failed and is begun again", exc_info=error)
        self._writing = None
        with self._lock:
            if exhausted:
                self._scheduler.shrink()
                log.warning("from here on %d answers are written at once", self._scheduler.most_rows)
            streams = self._scheduler.again()
        for job in streams:
            job.begin_again()
            job.tries += 1
            if job.tries >= MOST_TRIES:
                job.answer.fail(BusyError(EXHAUSTED) if exhausted else UserError(FAULT))

    def _finish(self, job: Job) -> None:
        job.answer.finish()
        self._release(job)

    def _end(self, job: Job, error: Exception) -> None:
        if not isinstance(error, UserError):
            log.error("a request failed", exc_info=error)
            error = UserError(FAULT)
        job.answer.fail(error)
        self._release(job)

    def _release(self, job: Job) -> None:
        if job.row is not None:
            job.row.ended = True  # the batch lets it go before its next step
        with self._lock:
            self._scheduler.leave(job)


def _kind(job: Job) -> tuple[bool, GenerationOptions]:
    """Searches of one kind go on together."""
    return job.guest, search_options(job.request)
