"""A batch in fixed slots: every row has a slot of its own and begins at its first position, so nothing is padded and
nothing moves when rows come and go.

A step is one forward pass over the first slots, a power of two of them; one that is free computes over its own first
position, and what comes of it is dropped. Prompts are prefilled the left-aligned way and copied in once. Lengths and
positions are numbers of the host; they travel once a step, and nothing here reads a tensor's numbers. Depends on the
two kinds of decoder and the left-aligned way; must not import requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from blip_space.engine.batch_interface import Batch
from blip_space.engine.caches import KeyValues
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch, LeftAlignedBatch
from blip_space.engine.slot_cache import SlotCache, capacity_for, next_power_of_two
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder
from blip_space.models.transfer import to_device

WASTE = 4
"""Buffers are made smaller where a power of two that is so many times smaller would do: half of it would have them
copied to and fro where one row comes and goes."""


@dataclass(eq=False)
class _Row:
    """Where a row is, how many positions it has read, where the next stands, and how long its prompt is where that has
    buffers of its own."""

    slot: int
    length: int
    next_position: int
    prompt_length: int = 1


FREE = _Row(slot=-1, length=0, next_position=0)
"""What a slot without a row computes: one position."""


class Slots(Batch):
    """What both kinds share."""

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
        for number in rows:
            row = self._rows[number]
            if any(row is other for other in selected):
                row = replace(row)
                copies.append(row)
            selected.append(row)
        self._rows = [row for row in selected if not any(row is copy for copy in copies)]
        if copies:
            self._copy_to_free_slots(copies)
        self._rows = selected
        self._shrink()

    def _copy_to_free_slots(self, copies: Sequence[_Row]) -> None:
        """Give rows that have others' slots their own, with the same in them."""
        self._reserve(len(self._rows) + len(copies), self._rows)
        moves = [(slot, row.slot) for slot, row in zip(self._free(len(copies)), copies, strict=True)]
        for cache, _ in self._caches():
            cache.copy(moves)
        for row, (slot, _) in zip(copies, moves, strict=True):
            row.slot = slot

    def _add(self, other: LeftAlignedBatch, prompt_lengths: Iterable[int]) -> list[_Row]:
        """Rows in free slots for the other's, whose buffers can hold them."""
        columns = zip(other.lengths, other.next_positions, prompt_lengths, strict=True)
        new = [_Row(-1, length, position, prompt) for length, position, prompt in columns]
        self._reserve(len(self._rows) + len(new), new)
        for row, slot in zip(new, self._free(len(new)), strict=True):
            row.slot = slot
        return new

    def _free(self, count: int) -> list[int]:
        """The lowest slots that no row has."""
        used = {row.slot for row in self._rows}
        return [slot for slot in range(len(self._rows) + count) if slot not in used][:count]

    def _reserve(self, count: int, rows: Sequence[_Row]) -> None:
        """Have so many slots, and capacity for the lengths of these rows."""
        for cache, lengths in self._caches(rows):
            slots = max(cache.slots, next_power_of_two(count))
            capacity = max(cache.capacity, capacity_for(max(lengths, default=0)))
            if (slots, capacity) != (cache.slots, cache.capacity):
                cache.rebuild(slots, capacity, range(cache.slots))

    def _shrink(self) -> None:
        """Give back what is far too large, and everything where no row is left."""
        slots, order = next_power_of_two(len(self._rows)), sorted(row.slot for row in self._rows)
        fewer = slots * WASTE <= self._cache.slots
        for cache, lengths in self._caches(self._rows):
            if not lengths:
                cache.clear()
                continue
            capacity = capacity_for(max(lengths))
            if fewer or capacity * WASTE <= cache.capacity:
                kept = order if fewer else range(cache.slots)
                cache.rebuild(slots if fewer else cache.slots, capacity, kept)
        if fewer:
            for row in self._rows:
                row.slot = order.index(row.slot)

    def _advance(self, tokens: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """For the slots of a step: ids (slots, 1), lengths and prompts' lengths less one, both (slots,), and positions
        (slots, 1); then the slot of each row."""
        for row in self._rows:
            row.length += 1
        self._reserve(len(self._rows), self._rows)
        count = next_power_of_two(1 + max(row.slot for row in self._rows))
        rows, ids = [FREE] * count, [0] * count
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
        given, lengths, prompts, positions, slots = to_device(columns, self._device)
        return given[:, None], lengths, prompts, positions[:, None], slots[: len(order)]

    def _in_order(self, logits: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """One row of logits for each row, in the rows' order."""
        if [row.slot for row in self._rows] == list(range(len(logits))):
            return logits
        return logits.index_select(0, slots)

    def _caches(self, rows: Sequence[_Row] = ()) -> list[tuple[SlotCache, list[int]]]:
        """The buffers, and how many positions of them each of these rows takes."""
        return [(self._cache, [row.length for row in rows])]


class DecoderOnlySlots(Slots):
    """Prompt and answer share one window."""

    def __init__(self, decoder: DecoderOnly) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self._prefilling = DecoderOnlyBatch(decoder)

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
        own = self._rows[row]
        cache = self._cache.copy_row(own.slot, own.length)
        return DecoderOnlyBatch.from_row(self._decoder, cache, own.length, own.next_position)

    @torch.inference_mode()
    def merge(self, other: DecoderOnlyBatch) -> None:
        new = self._add(other, [1] * len(other))
        self._cache.write([row.slot for row in new], other.cache, other.lengths)
        self._rows += new

    @torch.inference_mode()
    def key_values(self, row: int) -> KeyValues | None:
        return self._cache.key_values(self._rows[row].slot, self._rows[row].length)

    def _compute(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, DecoderOnlyBatch]:
        return self._prefilling._compute(prompts, cached)


class EncoderDecoderSlots(Slots):
    """The encoder reads the prompt, the decoder generates; what it attends to of a prompt has buffers of its own."""

    def __init__(self, decoder: EncoderDecoder) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self._prompt_cache = SlotCache()
        self._prefilling = EncoderDecoderBatch(decoder)

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
        own = self._rows[row]
        caches = self._cache.copy_row(own.slot, own.length), self._prompt_cache.copy_row(own.slot, own.prompt_length)
        return EncoderDecoderBatch.from_row(self._decoder, caches, own.length, own.next_position, own.prompt_length)

    @torch.inference_mode()
    def merge(self, other: EncoderDecoderBatch) -> None:
        new = self._add(other, other.prompt_lengths)
        slots, (own, prompts) = [row.slot for row in new], other.caches
        self._cache.write(slots, own, other.lengths)
        self._prompt_cache.write(slots, prompts, other.prompt_lengths, left=False)
        self._rows += new

    def key_values(self, row: int) -> KeyValues | None:  # noqa: ARG002  # the encoder reads a prompt as a whole
        return None

    def _compute(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, EncoderDecoderBatch]:
        return self._prefilling._compute(prompts, cached)

    def _caches(self, rows: Sequence[_Row] = ()) -> list[tuple[SlotCache, list[int]]]:
        return [*super()._caches(rows), (self._prompt_cache, [row.prompt_length for row in rows])]
