"""How far a job is, for its users. Depends on nothing else of this package."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class JobProgress:
    """The progress of a job, counted in records. `total` is the number of images times the number of tasks."""

    total: int
    generated: int = 0
    copied: int = 0
    skipped: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    """The file and error message of every record with an error, made in this run or an earlier one."""

    started_at: float = field(default_factory=time.monotonic)
    cancelled: bool = False

    @property
    def done(self) -> int:
        """The number of records that are finished, errors included."""
        return self.generated + self.copied + self.skipped + len(self.errors)

    @property
    def items_per_second(self) -> float:
        """Records per second since the model was loaded, or since the job began if it has not been."""
        spent = time.monotonic() - self.started_at
        return (self.generated + self.copied) / spent if spent > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The estimated time left, or None before the first caption has been generated."""
        return (self.total - self.done) / self.items_per_second if self.generated else None

    def __str__(self) -> str:
        """The progress in a few words for the user, such as `3 of 10, 1.5 per second, 5 s left`."""
        left, failed = self.seconds_left, len(self.errors)
        parts = [f"{self.done:,} of {self.total:,}", f"{self.items_per_second:.1f} per second"]
        if left:
            parts.append(f"{left:.0f} s left" if left < 90 else f"{left / 60:.0f} min left")
        if failed:
            parts.append(f"{failed} error{'s' * (failed > 1)}")
        return ", ".join(parts)
