"""Rows in fixed slots: every row starts at the first position of its own slot, so nothing is padded, and nothing moves
when other rows are added or removed.

Slots and capacity are powers of two, and grow and shrink with the rows. Lengths and positions are Python numbers, so
nothing here synchronises with a GPU. Depends on the left-aligned batch, of which preempted rows are; must not import
requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from blip_space.engine.batch_interface import Batch
from blip_space.engine.launched_step import LaunchedStep
from blip_space.engine.left_aligned_rows import LeftAlignedBatch
from blip_space.engine.slot_cache import BufferKeeper, SlotCache, capacity_for, next_power_of_two

SHRINK_FACTOR = 4
"""Buffers shrink if they are this many times as large as needed. With 2 they would be copied back and forth as one row
is added and removed."""


@dataclass(eq=False)
class Row:
    """One row: its slot, its length, the position of its next token and, for encoder-decoder models, the length of its
    prompt, which has buffers of its own."""

    slot: int
    length: int
    next_position: int
    prompt_length: int = 1


UNUSED = Row(slot=-1, length=0, next_position=0)
"""Takes the place of a row in an unused slot, which computes one position."""


class SlotRows(Batch):
    """The rows of a batch in fixed slots, and the buffers of their keys and values."""

    def __init__(self, keeper: BufferKeeper) -> None:
        self._rows: list[Row] = []
        self._cache = SlotCache(keeper)
        self._has_decoded = False
        """Whether no row was added since the last step."""

        self._launched: LaunchedStep | None = None
        """The next step, if it was launched before its tokens were known, as long as its keys and values are valid."""

    @staticmethod
    def reserved_positions(rows: int, longest: int) -> int:
        return next_power_of_two(rows) * capacity_for(longest)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for cache, _ in self._caches())

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._launched = None
        self._cache.copy([(self._rows[row].slot, self._rows[source].slot) for row, source in moves])

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        selected, copies, seen = list[Row](), list[Row](), set[Row]()
        for index in rows:
            row = self._rows[index]
            if row in seen:
                row = replace(row)
                copies.append(row)
            seen.add(row)
            selected.append(row)
        self._rows = [row for row in selected if row not in copies]
        if copies:
            self._copy_to_unused_slots(copies)
        self._rows = selected
        self._shrink()

    def _copy_to_unused_slots(self, copies: Sequence[Row]) -> None:
        """Move `copies`, which have the slots of their originals, to unused slots, and copy keys and values there."""
        self._reserve(len(self._rows) + len(copies), self._rows)
        moves = [(slot, row.slot) for slot, row in zip(self._unused(len(copies)), copies, strict=True)]
        for cache, _ in self._caches():
            cache.copy(moves)
        for row, (slot, _) in zip(copies, moves, strict=True):
            row.slot = slot

    def _add(self, other: LeftAlignedBatch, prompt_lengths: Iterable[int]) -> list[Row]:
        """New rows for the rows of another batch, in unused slots."""
        self._has_decoded = False
        columns = zip(other.lengths, other.next_positions, prompt_lengths, strict=True)
        new = [Row(-1, *numbers) for numbers in columns]
        self._assign_slots(new)
        return new

    def _assign_slots(self, new: Sequence[Row]) -> None:
        """Give new rows unused slots; buffers that are too small grow."""
        self._reserve(len(self._rows) + len(new), new)
        for row, slot in zip(new, self._unused(len(new)), strict=True):
            row.slot = slot

    def _unused(self, count: int) -> list[int]:
        """The `count` lowest slots without a row."""
        used = {row.slot for row in self._rows}
        return [slot for slot in range(len(self._rows) + count) if slot not in used][:count]

    def _reserve(self, count: int, rows: Sequence[Row]) -> None:
        """Grow the buffers to at least `count` slots, with capacity for `rows`."""
        for cache, lengths in self._caches(rows):
            slots = max(cache.slots, next_power_of_two(count))
            capacity = max(cache.capacity, capacity_for(max(lengths, default=0)))
            if (slots, capacity) != (cache.slots, cache.capacity):
                cache.rebuild(slots, capacity, range(cache.slots))

    def _shrink(self) -> None:
        """Shrink buffers that are far too large; free them if no row is left."""
        slots, order = next_power_of_two(len(self._rows)), sorted(row.slot for row in self._rows)
        fewer = slots * SHRINK_FACTOR <= self._cache.slots
        for cache, lengths in self._caches(self._rows):
            if not lengths:
                self._launched = None
                cache.clear()
                continue
            capacity = capacity_for(max(lengths))
            if fewer or capacity * SHRINK_FACTOR <= cache.capacity:
                self._launched = None  # the buffers may be too small for its positions
                kept = order if fewer else range(cache.slots)
                cache.rebuild(slots if fewer else cache.slots, capacity, kept)
        if fewer:
            for row in self._rows:
                row.slot = order.index(row.slot)

    def _caches(self, rows: Sequence[Row] = ()) -> list[tuple[SlotCache, list[int]]]:
        """Each cache, with the length of each of these rows in it."""
        return [(self._cache, [row.length for row in rows])]
