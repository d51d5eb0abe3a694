"""The progress of a run: log lines with samples per second and time left, and a plot of the scores over time.

Depends on matplotlib only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Point = tuple[str, int, float, dict[str, float]]
"""One evaluation: the stage, its number of samples so far, the seconds so far, and the scores by name."""


@dataclass
class Curve:
    """The learning curve: the scores of every evaluation in a run, stage after stage."""

    points: list[Point] = field(default_factory=list)

    def add(self, stage: str, samples: int, seconds: float, scores: Mapping[str, float]) -> None:
        """Add the scores of one evaluation."""
        self.points.append((stage, samples, seconds, dict(scores)))

    def draw(self, path: Path) -> None:
        """Plot every score over the minutes of the run, with a panel for each stage, and save the PNG at `path`."""
        from matplotlib.figure import Figure

        stages = list(dict.fromkeys(stage for stage, *_ in self.points))
        figure = Figure(figsize=(4 * max(1, len(stages)), 3.2), layout="constrained")
        for number, stage in enumerate(stages):
            axes = figure.add_subplot(1, len(stages), number + 1)
            _panel(axes, stage, [point for point in self.points if point[0] == stage])
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.png")  # two processes may draw at once
        figure.savefig(temporary, dpi=80)
        temporary.replace(path)


def _panel(axes: Any, stage: str, points: list[Point]) -> None:
    for name in points[-1][3]:
        line = [(seconds / 60, scores[name]) for _, _, seconds, scores in points if name in scores]
        axes.plot(*zip(*line, strict=True), label=name, linewidth=1.4)
    axes.set(title=stage, xlabel="minutes of the run", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")


@dataclass
class Meter:
    """Measures the speed and the time left of one stage; before it was resumed, it had run for `earlier_seconds`."""

    stage: str
    steps: int
    batch: int
    first: int
    earlier_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """The seconds spent on the stage, including those before it was resumed."""
        return self.earlier_seconds + time.monotonic() - self.started

    def report(self, step: int, loss: float, scores: Mapping[str, float]) -> None:
        """Print a log line: the step, the speed, the time left, the loss and the scores."""
        steps_per_second = (step - self.first) / max(1e-9, time.monotonic() - self.started)
        seconds_left = (self.steps - step) / max(1e-9, steps_per_second)
        shares = " ".join(f"{name} {share:.3f}" for name, share in scores.items())
        print(
            f"{self.stage} {step}/{self.steps} · {steps_per_second * self.batch:.0f} samples/s · "
            f"{seconds_left / 60:.1f} min left · loss {loss:.3f} · {shares}",
            flush=True,
        )
