"""Who is written now and who waits: a bounded line, a bounded number of rows, and bounded newcomers a step.

Guests are jobs that nobody watches, such as those of a batch: they have a line and a bound of their own, are let in
where no visitor waits, leave half of the places free, and give theirs up as soon as a visitor finds none.

Pure: knows jobs only by whether anybody still waits for them, which model they want and how long their prompts are;
knows no thread, no tensor and no text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Waits(Protocol):
    """What the scheduler asks of a job."""

    @property
    def over(self) -> bool:
        """Whether nobody waits for its answer any more."""

    @property
    def model(self) -> str:
        """The model that is to answer."""

    @property
    def taken(self) -> int:
        """How many tokens were written since it was let in; a search, which has no row, takes none."""

    @property
    def searches(self) -> bool:
        """Whether it is a search, which goes on until its end."""

    @property
    def guest(self) -> bool:
        """Whether visitors come before it."""


Job = TypeVar("Job", bound=Waits)


class Scheduler(Generic[Job]):
    """First come, first served; rows are written together as long as they want the same model."""

    def __init__(
        self, *, most_rows: int, most_waiting: int, most_guests: int, most_positions: int, turn_tokens: int
    ) -> None:
        """`most_positions` is how long the prompts that are read in one step may be together; one may be longer. After
        `turn_tokens` a row gives its place to whoever waits, and stands in line again."""
        self.most_rows = most_rows
        self.most_waiting = most_waiting
        self.most_guests = most_guests
        self.most_positions = most_positions
        self.turn_tokens = turn_tokens
        self.waiting: deque[Job] = deque()
        self.guests: deque[Job] = deque()
        """Guests who wait."""

        self.running: list[Job] = []

    def is_full(self, *, guest: bool) -> bool:
        """Whether that line has no place left."""
        return len(self.guests) >= self.most_guests if guest else len(self.waiting) >= self.most_waiting

    def put(self, job: Job) -> None:
        """The job goes to the end of its line."""
        self._line(job).append(job)

    def in_line(self) -> list[Job]:
        """All who wait, visitors first."""
        return [*self.waiting, *self.guests]

    def ahead(self, job: Job) -> int | None:
        """How many stand in line before the visitor's job; None when it is not in line."""
        return next((place for place, other in enumerate(self.waiting) if other is job), None)

    def sweep(self) -> list[Job]:
        """Forget all jobs that nobody waits for; those among them that were being written."""
        gone = [job for job in self.running if job.over]
        self.running = [job for job in self.running if not job.over]
        self.waiting = deque(job for job in self.waiting if not job.over)
        self.guests = deque(job for job in self.guests if not job.over)
        return gone

    def first(self) -> Job | None:
        """Whose model is wanted next: the rows', else that of the first in line. None where there is nothing to do."""
        return next(iter([*self.running, *self.in_line()]), None)

    def next_model(self) -> str | None:
        """The model that is wanted next."""
        first = self.first()
        return first.model if first else None

    def admit(self, positions: Callable[[Job], int]) -> list[Job]:
        """The first in line whose prompts are to be read now, which are running from here on.

        Nobody overtakes: who wants another model, or does not fit, holds up those behind. Beside visitors one guest
        is let in at a time, since they wait while its picture is looked at.
        """
        admitted: list[Job] = []
        left = self.most_positions
        while (job := self._next()) is not None:
            length = positions(job)
            if admitted and (length > left or (job.guest and not all(other.guest for other in self.running))):
                break
            left -= length
            admitted.append(self._line(job).popleft())
            self.running.append(job)
        return admitted

    def step_aside(self) -> list[Job]:
        """Guests, then those who had their turn, longest first, while visitors wait and no place is free. They stand
        in line again, guests at the head of theirs.

        No more of them than wait; nobody, where the first in line wants another model, since it needs all places.
        """
        if not self.waiting or len(self.running) < self.most_rows or self.waiting[0].model != self.next_model():
            return []
        guests = [job for job in self.running if job.guest and not job.searches]
        had = [job for job in self.running if not job.guest and job.taken >= self.turn_tokens]
        aside = [*guests, *sorted(had, key=lambda job: -job.taken)][: len(self.waiting)]
        for job in aside:
            self.leave(job)
            if job.guest:
                self.guests.appendleft(job)  # so that no more of them are ever half written than there are places
            else:
                self.waiting.append(job)
        return aside

    def leave(self, job: Job) -> None:
        """The job is not being written any more."""
        self.running = [other for other in self.running if other is not job]

    def again(self) -> list[Job]:
        """All rows go back to the head of their line, in their order, and are returned; searches go on."""
        back = [job for job in self.running if not job.searches]
        self.running = [job for job in self.running if job.searches]
        for job in reversed(back):
            self._line(job).appendleft(job)
        return back

    def shrink(self) -> None:
        """Write fewer rows at once from here on: half of those that there are, at least one."""
        self.most_rows = max(1, min(self.most_rows, len(self.running)) // 2)

    def _line(self, job: Job) -> deque[Job]:
        return self.guests if job.guest else self.waiting

    def _next(self) -> Job | None:
        """Who may be let in now."""
        if len(self.running) >= self.most_rows:
            return None
        if self.waiting:
            job = self.waiting[0]
        elif self.guests and sum(other.guest for other in self.running) < max(1, self.most_rows // 2):
            job = self.guests[0]
        else:
            return None
        return job if job.model == self.next_model() else None
