"""Who is written now and who waits: a bounded line, a bounded number of rows, and bounded newcomers a step.

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


Job = TypeVar("Job", bound=Waits)


class Scheduler(Generic[Job]):
    """First come, first served; rows are written together as long as they want the same model."""

    def __init__(self, *, most_rows: int, most_waiting: int, most_positions: int, turn_tokens: int) -> None:
        """`most_positions` is how long the prompts that are read in one step may be together; one may be longer. After
        `turn_tokens` a row gives its place to whoever waits, and stands in line again."""
        self.most_rows = most_rows
        self.most_waiting = most_waiting
        self.most_positions = most_positions
        self.turn_tokens = turn_tokens
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []

    @property
    def is_full(self) -> bool:
        """Whether the line has no place left."""
        return len(self.waiting) >= self.most_waiting

    def put(self, job: Job) -> None:
        """The job goes to the end of the line."""
        self.waiting.append(job)

    def ahead(self, job: Job) -> int | None:
        """How many stand in line before the job; None when it is not in line."""
        return next((place for place, other in enumerate(self.waiting) if other is job), None)

    def sweep(self) -> list[Job]:
        """Forget all jobs that nobody waits for; those among them that were being written."""
        gone = [job for job in self.running if job.over]
        self.running = [job for job in self.running if not job.over]
        self.waiting = deque(job for job in self.waiting if not job.over)
        return gone

    def next_model(self) -> str | None:
        """The model that is wanted next: that of the rows, else that of the first in line."""
        if self.running:
            return self.running[0].model
        return self.waiting[0].model if self.waiting else None

    def admit(self, positions: Callable[[Job], int]) -> list[Job]:
        """The first in line whose prompts are to be read now, which are running from here on.

        Nobody overtakes: who wants another model, or does not fit, holds up those behind.
        """
        admitted: list[Job] = []
        left = self.most_positions
        while self.waiting and len(self.running) < self.most_rows and self.waiting[0].model == self.next_model():
            length = positions(self.waiting[0])
            if admitted and length > left:
                break
            left -= length
            admitted.append(self.waiting.popleft())
            self.running.append(admitted[-1])
        return admitted

    def step_aside(self) -> list[Job]:
        """Those who had their turn, longest first, while others wait and no place is free; they stand in line again.

        No more of them than wait; nobody, where the first in line wants another model, since it needs all places.
        """
        if not self.waiting or len(self.running) < self.most_rows or self.waiting[0].model != self.next_model():
            return []
        had = [job for job in self.running if job.taken >= self.turn_tokens]
        aside = sorted(had, key=lambda job: -job.taken)[: len(self.waiting)]
        for job in aside:
            self.leave(job)
            self.waiting.append(job)
        return aside

    def leave(self, job: Job) -> None:
        """The job is not being written any more."""
        self.running = [other for other in self.running if other is not job]

    def again(self) -> list[Job]:
        """All rows go back to the head of the line, in their order; they are returned."""
        back, self.running = self.running, []
        self.waiting.extendleft(reversed(back))
        return back

    def shrink(self) -> None:
        """Write fewer rows at once from here on: half of those that there are, at least one."""
        self.most_rows = max(1, min(self.most_rows, len(self.running)) // 2)
