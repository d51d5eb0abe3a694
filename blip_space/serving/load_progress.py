"""The progress of loading a model, as a share and a sentence, with an estimate of the time left.

Depends on load events and a clock; must not import a library that loads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blip_space.loading.progress import LoadEvent

MIN_SECONDS = 1.0
"""How long to measure before an estimate is given."""

REPORT_SECONDS, QUIET_SECONDS = 10.0, 2.0


@dataclass(frozen=True)
class LoadEstimate:
    """The progress as a share from 0 to 1 and as a sentence, and the seconds left, if they can be estimated. `done` and
    `total` are the bytes of a download, or the tensors of a load."""

    share: float
    sentence: str
    seconds_left: float | None
    phase: str = ""
    done: int = 0
    total: int = 0


class LoadProgress:
    """Receives events on the loading thread, and gives an estimate to any thread."""

    def __init__(
        self,
        report: Callable[[str], None] | None = None,
        *,
        interval_seconds: float = REPORT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` is called with the sentence every `interval_seconds`, first after 2 s: most models load fast."""
        self._clock = clock
        self._report, self._interval_seconds, self._reported_at = report, interval_seconds, 0.0
        self._first: tuple[LoadEvent, float] | None = None
        self._last: tuple[LoadEvent, float] | None = None

    def __call__(self, event: LoadEvent) -> None:
        """Receive the next event."""
        now = self._clock()
        if self._first is None:
            self._reported_at = now + QUIET_SECONDS - self._interval_seconds
        if self._first is None or self._first[0].phase != event.phase:
            self._first = (event, now)
        self._last = (event, now)
        estimate = self.estimate() if self._report and now - self._reported_at >= self._interval_seconds else None
        if estimate and self._report:
            self._reported_at = now
            self._report(estimate.sentence)

    def estimate(self) -> LoadEstimate | None:
        """The progress so far; None before the first event."""
        if self._first is None or self._last is None:
            return None
        (first, started_at), (last, now) = self._first, self._last
        share = last.done / last.total if last.total else 1.0
        done, seconds = last.done - first.done, now - started_at
        left = seconds * (last.total - last.done) / done if done and seconds >= MIN_SECONDS else None
        return LoadEstimate(share, _sentence(last, share, left), left, last.phase, last.done, last.total)


def _sentence(event: LoadEvent, share: float, left: float | None) -> str:
    if event.phase == "download":
        text = f"downloading, {event.done / 1e9:.2f} of {event.total / 1e9:.2f} GB"
    else:
        text = f"loading its weights, {share:.0%}"
    return f"{text}, {_duration(left)} left" if left is not None and share < 1 else text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
