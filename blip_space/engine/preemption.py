"""Which running sequence loses its slot to a waiting one.

Background sequences do at once; those of a caller with more than its share at once, too; all others after their time
slice, if no caller has fewer by that. Depends on sequences and shares only.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as List

from blip_space.engine.fairness import Shares
from blip_space.engine.sequence import Sequence


def preemptible(
    running: List[Sequence], waiting: Sequence, shares: Shares, *, time_slice: int, keeps_row: bool
) -> Sequence | None:
    """The running sequence of its kind whose slot `waiting` gets, or None if it waits for the end of one.

    `time_slice` is in tokens. Without `keeps_row` the sequence loses what it has generated, so only background
    sequences and those of callers with too many are preempted, and of these the shortest.
    """
    running = [sequence for sequence in running if sequence.uses_beam_search == waiting.uses_beam_search]
    background = next((sequence for sequence in running if sequence.is_background), None)
    if background is not None:
        return background
    excess = [sequence for sequence in running if shares.has_more(sequence, waiting)]
    if not keeps_row:
        return min(reversed(excess), key=lambda sequence: len(sequence.ids), default=None)
    served = [sequence for sequence in running if sequence.tokens_since_admission >= time_slice]
    exchangeable = [sequence for sequence in served if shares.may_change_places(sequence, waiting)]

    def by_need(sequence: Sequence) -> tuple[int, int]:
        return shares.lead(sequence, waiting), sequence.tokens_since_admission

    return max(dict.fromkeys([*excess, *exchangeable]), key=by_need, default=None)


def evictable(
    running: List[Sequence], preempted: Iterable[Sequence], waiting: Sequence, shares: Shares
) -> Iterable[Sequence]:
    """Those that may lose their memory to `waiting`, in this order, while its caller has so much less: background ones,
    then those of callers with too many, preempted ones first, then those admitted last."""
    with_rows = [*preempted, *reversed(running)]
    yield from [sequence for sequence in with_rows if sequence.is_background]
    if waiting.runs_alone or (running and running[0].runs_alone):
        return  # it waits for the others, and not for memory
    for sequence in [sequence for sequence in with_rows if not sequence.is_background]:
        if shares.has_more(sequence, waiting):
            shares.remove(sequence)
            yield sequence
