"""A batch in fixed slots: every row starts at the first position of its own slot, so nothing is padded, and nothing
moves when other rows are added or removed.

A step is one forward pass over the first slots, whose number is a power of two; an unused slot computes its first
position, and the result is dropped. Prompts are prefilled as a left-aligned batch and copied into slots once. Lengths
and positions are Python numbers, copied to the device once a step, and nothing here synchronises with a GPU. Depends on
the two kinds of decoder and the left-aligned batch; must not import requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace

import torch

from blip_space.engine.batch_interface import Batch
from blip_space.engine.caches import KeyValues
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch, LeftAlignedBatch
from blip_space.engine.slot_cache import SlotCache, capacity_for, next_power_of_two
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder
from blip_space.models.transfer import to_device

SHRINK_FACTOR = 4
"""Buffers shrink if they are this many times as large as needed. With 2 they would be copied back and forth as one row
is added and removed."""


@dataclass(eq=False)
class _Row:
    """One row: its slot, its length, the position of its next token and, for encoder-decoder models, the length of its
    prompt, which has buffers of its own."""

    slot: int
    length: int
    next_position: int
    prompt_length: int = 1


UNUSED = _Row(slot=-1, length=0, next_position=0)
"""Takes the place of a row in an unused slot, which computes one position."""


class Slots(Batch):
    """What the slots of both kinds of decoder share."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rows: list[_Row] = []
        self._cache = SlotCache()

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
        self._cache.copy([(self._rows[row].slot, self._rows[source].slot) for row, source in moves])

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        selected, copies = list[_Row](), list[_Row]()
        for index in rows:
            row = self._rows[index]
            if any(row is other for other in selected):
                row = replace(row)
                copies.append(row)
            selected.append(row)
        self._rows = [row for row in selected if not any(row is copy for copy in copies)]
        if copies:
            self._copy_to_unused_slots(copies)
        self._rows = selected
        self._shrink()

    def _copy_to_unused_slots(self, copies: Sequence[_Row]) -> None:
        """Move `copies`, which have the slots of their originals, to unused slots, and copy keys and values there."""
        self._reserve(len(self._rows) + len(copies), self._rows)
        moves = [(slot, row.slot) for slot, row in zip(self._unused(len(copies)), copies, strict=True)]
        for cache, _ in self._caches():
            cache.copy(moves)
        for row, (slot, _) in zip(copies, moves, strict=True):
            row.slot = slot

    def _add(self, other: LeftAlignedBatch, prompt_lengths: Iterable[int]) -> list[_Row]:
        """New rows for the rows of another batch, in unused slots; buffers that are too small grow."""
        columns = zip(other.lengths, other.next_positions, prompt_lengths, strict=True)
        new = [_Row(-1, *numbers) for numbers in columns]
        self._reserve(len(self._rows) + len(new), new)
        for row, slot in zip(new, self._unused(len(new)), strict=True):
            row.slot = slot
        return new

    def _unused(self, count: int) -> list[int]:
        """The `count` lowest slots without a row."""
        used = {row.slot for row in self._rows}
        return [slot for slot in range(len(self._rows) + count) if slot not in used][:count]

    def _reserve(self, count: int, rows: Sequence[_Row]) -> None:
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
                cache.clear()
                continue
            capacity = capacity_for(max(lengths))
            if fewer or capacity * SHRINK_FACTOR <= cache.capacity:
                kept = order if fewer else range(cache.slots)
                cache.rebuild(slots if fewer else cache.slots, capacity, kept)
        if fewer:
            for row in self._rows:
                row.slot = order.index(row.slot)

    def _advance(self, tokens: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """Append a position to every row. Returns the step's input: ids (slots, 1), lengths minus one (slots,), prompt
        lengths minus one (slots,), positions (slots, 1), and the slot of each row (rows,)."""
        for row in self._rows:
            row.length += 1
        self._reserve(len(self._rows), self._rows)
        count = next_power_of_two(1 + max(row.slot for row in self._rows))
        rows, ids = [UNUSED] * count, [0] * count
        for row, token in zip(self._rows, tokens, strict=True):
            rows[row.slot], ids[row.slot] = row, token
        order = [row.slot for row in self._rows]
        columns = (
            ids,
            [max(0, row.length - 1) for row in rows],
            [row.prompt_length - 1 for row in rows],
            [row.next_position for row in rows],
            order + [0] * (count - len(order)),
        )
        for row in self._rows:
            row.next_position += 1
        id_column, lengths, prompts, positions, slots = to_device(columns, self._device)
        return id_column[:, None], lengths, prompts, positions[:, None], slots[: len(order)]

    def _in_order(self, logits: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """The logits in the order of the rows, from logits in the order of the slots."""
        if [row.slot for row in self._rows] == list(range(len(logits))):
            return logits
        return logits.index_select(0, slots)

    def _caches(self, rows: Sequence[_Row] = ()) -> list[tuple[SlotCache, list[int]]]:
        """Each cache, with the length of each of these rows in it."""
        return [(self._cache, [row.length for row in rows])]


class DecoderOnlySlots(Slots):
    """Slots for a decoder-only model: one slot holds a prompt and its answer."""

    def __init__(self, decoder: DecoderOnly) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self._prefill_batch = DecoderOnlyBatch(decoder)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        ids, lengths, _, positions, slots = self._advance(tokens)
        logits = self._decoder.forward(
            ids=ids,
            positions=positions.expand(self._decoder.axes, -1, -1),
            mask=self._decoder.slot_mask(lengths, self._cache.capacity),
            key_values=self._cache.view(len(ids), lengths),
        )
        return self._in_order(logits, slots)

    @torch.inference_mode()
    def copy(self, row: int) -> DecoderOnlyBatch:
        source = self._rows[row]
        cache = self._cache.copy_row(source.slot, source.length)
        return DecoderOnlyBatch.from_row(self._decoder, cache, source.length, source.next_position)

    @torch.inference_mode()
    def merge(self, other: DecoderOnlyBatch) -> None:
        new = self._add(other, [1] * len(other))
        self._cache.write([row.slot for row in new], other.cache, other.lengths)
        self._rows += new

    @torch.inference_mode()
    def key_values(self, row: int) -> KeyValues | None:
        return self._cache.key_values(self._rows[row].slot, self._rows[row].length)

    def _forward(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, DecoderOnlyBatch]:
        return self._prefill_batch._forward(prompts, cached)


class EncoderDecoderSlots(Slots):
    """Slots for an encoder-decoder model, separate for self-attention (answers) and cross-attention (prompts)."""

    def __init__(self, decoder: EncoderDecoder) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self._prompt_cache = SlotCache()
        self._prefill_batch = EncoderDecoderBatch(decoder)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        ids, lengths, prompts, positions, slots = self._advance(tokens)
        logits = self._decoder.forward(
            ids,
            positions=positions[None],
            mask=self._decoder.slot_mask(lengths, self._cache.capacity),
            states=None,
            prompt_mask=self._decoder.slot_mask(prompts, self._prompt_cache.capacity),
            self_attention=self._cache.view(len(ids), lengths),
            cross_attention=self._prompt_cache.view(len(ids)),
        )
        return self._in_order(logits, slots)

    @torch.inference_mode()
    def copy(self, row: int) -> EncoderDecoderBatch:
        slot, length, next_position, prompt_length = astuple(self._rows[row])
        caches = self._cache.copy_row(slot, length), self._prompt_cache.copy_row(slot, prompt_length)
        return EncoderDecoderBatch.from_row(self._decoder, caches, length, next_position, prompt_length)

    @torch.inference_mode()
    def merge(self, other: EncoderDecoderBatch) -> None:
        new = self._add(other, other.prompt_lengths)
        slots = [row.slot for row in new]
        self._cache.write(slots, other.self_attention, other.lengths)
        self._prompt_cache.write(slots, other.cross_attention, other.prompt_lengths, left=False)
        self._rows += new

    def key_values(self, row: int) -> KeyValues | None:  # noqa: ARG002  # an encoder takes the complete prompt
        return None

    def _forward(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, EncoderDecoderBatch]:
        return self._prefill_batch._forward(prompts, cached)

    def _caches(self, rows: Sequence[_Row] = ()) -> list[tuple[SlotCache, list[int]]]:
        return [*super()._caches(rows), (self._prompt_cache, [row.prompt_length for row in rows])]
