"""How far the loading of a model is, as a share and a sentence, with an estimate of what is left.

Depends on load steps and a clock; must not import a library that loads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blip_space.loading.progress import LoadEvent

MIN_SECONDS = 1.0
"""Before that an estimate is a guess."""

REPORT_SECONDS, QUIET_SECONDS = 10.0, 2.0


@dataclass(frozen=True)
class LoadEstimate:
    """How far it is: a share from 0 to 1, a sentence, and the seconds that are left, where that can be known."""

    share: float
    sentence: str
    seconds_left: float | None


class LoadProgress:
    """Takes steps, from the thread that loads; says how far it is, to any thread."""

    def __init__(
        self,
        report: Callable[[str], None] | None = None,
        *,
        interval_seconds: float = REPORT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` is given the sentence each `every` seconds: not at once, since most models are loaded soon."""
        self._clock = clock
        self._report, self._every, self._reported_at = report, interval_seconds, 0.0
        self._first: tuple[LoadEvent, float] | None = None
        self._last: tuple[LoadEvent, float] | None = None

    def __call__(self, step: LoadEvent) -> None:
        """Take the next step."""
        now = self._clock()
        if self._first is None:
            self._reported_at = now + QUIET_SECONDS - self._every
        if self._first is None or self._first[0].phase != step.phase:
            self._first = (step, now)
        self._last = (step, now)
        estimate = self.estimate() if self._report and now - self._reported_at >= self._every else None
        if estimate and self._report:
            self._reported_at = now
            self._report(estimate.sentence)

    def estimate(self) -> LoadEstimate | None:
        """How far it is; None before the first step."""
        if self._first is None or self._last is None:
            return None
        (first, began), (last, now) = self._first, self._last
        share = last.done / last.total if last.total else 1.0
        gained, spent = last.done - first.done, now - began
        left = spent * (last.total - last.done) / gained if gained and spent >= MIN_SECONDS else None
        return LoadEstimate(share, _sentence(last, share, left), left)


def _sentence(step: LoadEvent, share: float, left: float | None) -> str:
    if step.phase == "download":
        text = f"downloading, {step.done / 1e9:.2f} of {step.total / 1e9:.2f} GB"
    else:
        text = f"reading its weights, {share:.0%}"
    return f"{text}, {_duration(left)} left" if left is not None and share < 1 else text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
