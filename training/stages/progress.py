"""How a run is going: a line a report with samples a second and time left, and a curve of right answers over time.

Knows numbers and a picture of them; knows no network and no lesson.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Point = tuple[str, int, float, dict[str, float]]
"""Stage, samples seen in it, seconds into the run, and the shares of right answers."""


@dataclass
class Curve:
    """Marks over a whole run, stage after stage."""

    points: list[Point] = field(default_factory=list)

    def add(self, stage: str, samples: int, seconds: float, marks: Mapping[str, float]) -> None:
        """Note the marks of one exam."""
        self.points.append((stage, samples, seconds, dict(marks)))

    def draw(self, path: Path) -> None:
        """Draw every mark against minutes, one panel a stage, into a small PNG."""
        from matplotlib.figure import Figure

        stages = list(dict.fromkeys(stage for stage, *_ in self.points))
        figure = Figure(figsize=(4 * max(1, len(stages)), 3.2), layout="constrained")
        for number, stage in enumerate(stages):
            axes = figure.add_subplot(1, len(stages), number + 1)
            _panel(axes, stage, [point for point in self.points if point[0] == stage])
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.png")  # two processes draw at times
        figure.savefig(draft, dpi=80)
        draft.replace(path)


def _panel(axes: Any, stage: str, points: list[Point]) -> None:
    for name in points[-1][3]:
        known = [(seconds / 60, marks[name]) for _, _, seconds, marks in points if name in marks]
        axes.plot(*zip(*known, strict=True), label=name, linewidth=1.4)
    axes.set(title=stage, xlabel="minutes of the run", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")


@dataclass
class Meter:
    """Speed and time left of one stage. `before` seconds were spent on it in earlier sittings."""

    stage: str
    steps: int
    batch: int
    first: int
    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time spent on the stage, earlier sittings included."""
        return self.before + time.monotonic() - self.started

    def report(self, step: int, loss: float, marks: Mapping[str, float]) -> None:
        """Print one line."""
        pace = (step - self.first) / max(1e-9, time.monotonic() - self.started)
        left = (self.steps - step) / max(1e-9, pace)
        scores = " ".join(f"{name} {share:.3f}" for name, share in marks.items())
        print(
            f"{self.stage} {step}/{self.steps} · {pace * self.batch:.0f} samples/s · "
            f"{left / 60:.1f} min left · loss {loss:.3f} · {scores}",
            flush=True,
        )
