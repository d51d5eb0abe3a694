"""What one step does: the scheduler makes the plan, and the model runner executes it. Depends on sequences only."""

from __future__ import annotations

from dataclasses import dataclass, field

from blip_space.engine.sequence import Sequence


@dataclass(frozen=True)
class Plan:
    """What one step does, in this order: remove finished sequences, preempt or discard others, decode the running ones
    and prefill the admitted ones. A preempted sequence keeps its keys and values; a discarded one restarts."""

    removed: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    discarded: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    admits_more: bool = False
    """Whether others are admitted in the next step, since a step prefills only so many positions, or may be, since a
    batch is filled."""
