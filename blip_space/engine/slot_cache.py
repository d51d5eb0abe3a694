"""Keys and values in fixed slots: a row starts at the first position of its slot and never moves as others come and go.

All layers share one tensor (2 * layers, slots, heads, capacity, width), so that one operation copies a row, and not two
per layer; slots and capacity are powers of two, so that there are few shapes. A step writes one position per slot but
reads whole buffers, so unused positions must hold finite numbers: they are zeros, or what a captured step was compared
with. Buffers of which a graph has the addresses do not change. The mask is made by the caller. Depends on transformers'
cache layers; must not import a language model. Nothing here synchronises with a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from blip_space.engine.caches import KeyValuePair, StackedKeyValues, layer_pairs
from blip_space.engine.kv_cache import BLOCK_TOKENS, KVCache
from blip_space.models.transfer import to_device


@dataclass(eq=False)
class SlotBuffers:
    """The keys and values of every layer; a captured graph has their addresses. `owner` stands for
    their cache, and does not refer to it: in a circle of references their memory would be freed only once Python's
    collector runs.

    `tensor` is (2 * layers, slots, heads, capacity, width), with the keys of a layer before its values; None before the
    first write.
    """

    owner: object
    slots: int = 0
    capacity: int = 0
    tensor: torch.Tensor | None = None

    @cached_property
    def layers(self) -> list[KeyValuePair]:
        """The keys and the values of every layer, each (slots, heads, capacity, width); not before the first write."""
        assert self.tensor is not None
        return layer_pairs(self.tensor)

    @property
    def nbytes(self) -> int:
        return 0 if self.tensor is None else self.tensor.nbytes


class BufferKeeper(Protocol):
    """Keeps buffers that are not in use, for the graphs that have their addresses."""

    def has_graphs(self, buffers: SlotBuffers) -> bool:
        """Whether a graph has the addresses of these buffers, so that they must not change."""

    def keep(self, buffers: SlotBuffers) -> None:
        """Keep buffers of which graphs have the addresses, or drop these graphs."""

    def take(self, owner: object, slots: int, capacity: int) -> SlotBuffers | None:
        """Buffers of that size that were kept for this cache, filled with zeros."""


class SlotCache:
    """The keys and values of every layer, for all slots."""

    def __init__(self, keeper: BufferKeeper | None = None) -> None:
        self._owner = object()
        self.buffers = SlotBuffers(self._owner)
        self._keeper = keeper
        self._pattern: torch.Tensor | None = None
        """An empty tensor with the layers, heads, width and dtype of the buffers, after the first write."""

        self._view: DynamicCache | None = None
        self._view_slots = 0

    @property
    def slots(self) -> int:
        return self.buffers.slots

    @property
    def capacity(self) -> int:
        return self.buffers.capacity

    @property
    def nbytes(self) -> int:
        return self.buffers.nbytes

    @property
    def position_nbytes(self) -> int:
        """The size of one position of a slot; 0 before the first write."""
        if self._pattern is None:
            return 0
        parts, _, heads, _, width = self._pattern.shape
        return parts * heads * width * self._pattern.itemsize

    def view(self, count: int, position: torch.Tensor | None = None) -> DynamicCache:
        """The first `count` slots as a transformers cache, which writes the next token at `position` (count,)."""
        if self._view is None or self._view_slots != count:
            self._view_slots, self._view = count, DynamicCache()
            self._view.layers = [_SlotLayer(*(part[:count] for part in layer)) for layer in self.buffers.layers]
        if position is not None:
            index = torch.arange(count, device=position.device), position
            for layer in self._view.layers:
                layer.index = index
        return self._view

    def rebuild(self, slots: int, capacity: int, kept: Sequence[int]) -> None:
        """Take buffers of another size, and copy the slots `kept` to their first slots, in this order."""
        old, length = self.buffers, min(capacity, self.capacity)
        new = self._keeper.take(self._owner, slots, capacity) if self._keeper else None
        if new is None:
            new = SlotBuffers(self._owner, slots, capacity)
            new.tensor = None if old.tensor is None else self._empty(slots, capacity)
        if new.tensor is not None and old.tensor is not None:
            source = old.tensor[:, :, :, :length]
            if list(kept) != list(range(len(kept))):
                source = source.index_select(1, to_device(kept, source.device))
            new.tensor[:, : len(kept), :, :length] = source[:, : len(kept)]
        self.buffers, self._view = new, None
        self._retire(old)

    def clear(self) -> None:
        """Free all memory, but for buffers that are kept for their graphs."""
        old, self.buffers, self._view = self.buffers, SlotBuffers(self._owner), None
        self._retire(old)

    def fill(self, slots: int, capacity: int) -> None:
        """Have buffers of this size with random numbers everywhere, for no row. Not before the first write."""
        self.rebuild(slots, capacity, [])
        self._allocate().normal_(std=0.5)

    def write(self, slots: Sequence[int], rows: KVCache, lengths: Sequence[int], *, left: bool = True) -> None:
        """Overwrite `slots` with another cache's rows, which are padded on the left if `left`, else on the right."""
        parts = [part for layer in rows.layers for part in layer]
        width = parts[0].shape[2]
        starts = [width - length if left else 0 for length in lengths]
        for row, (slot, start, length) in enumerate(zip(slots, starts, lengths, strict=True)):
            self.write_row(slot, torch.stack([part[row, :, start : start + length] for part in parts]))

    def write_row(self, slot: int, new: torch.Tensor, prefix: torch.Tensor | None = None) -> None:
        """Overwrite a slot with keys and values (2 * layers, heads, positions, width), after those of a prefix, and
        with zeros."""
        if self._pattern is None:
            self._pattern = new.new_empty(len(new), 0, new.shape[1], 0, new.shape[3])
        target, start = self._allocate()[:, slot], 0
        for part in (new,) if prefix is None else (prefix, new):
            end = start + part.shape[2]
            target[:, :, start:end] = part
            start = end
        target[:, :, start:] = 0

    def copy(self, moves: Sequence[tuple[int, int]]) -> None:
        """Overwrite slots: each move is (target, source), and all sources are read before any target is written."""
        tensor = self.buffers.tensor
        if not moves or tensor is None:
            return
        targets, sources = to_device(list(zip(*moves, strict=True)), tensor.device)
        tensor.index_copy_(1, targets, tensor.index_select(1, sources))

    def copy_row(self, slot: int, length: int) -> KVCache:
        """A copy of a slot's first `length` positions, as a cache of one left-aligned row."""
        return KVCache.from_row(layer_pairs(self._row(slot, length)[:, None]), length)

    def key_values(self, slot: int, length: int) -> StackedKeyValues:
        """A copy of the keys and values of a slot's first `length` positions."""
        return StackedKeyValues(self._row(slot, length))

    def _row(self, slot: int, length: int) -> torch.Tensor:
        assert self.buffers.tensor is not None
        return self.buffers.tensor[:, slot, :, :length].clone()

    def _allocate(self) -> torch.Tensor:
        buffers = self.buffers
        if buffers.tensor is None:
            buffers.tensor = self._empty(buffers.slots, buffers.capacity)
        return buffers.tensor

    def _empty(self, slots: int, capacity: int) -> torch.Tensor:
        """A tensor of zeros for that many slots and positions."""
        assert self._pattern is not None
        parts, _, heads, _, width = self._pattern.shape
        return self._pattern.new_zeros(parts, slots, heads, capacity, width)

    def _retire(self, old: SlotBuffers) -> None:
        if self._keeper and old.tensor is not None:
            self._keeper.keep(old)


class _SlotLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """A layer whose `update` returns all positions of its slots; the mask hides the unused ones."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self.index: KeyValuePair | None = None
        """Where the next step writes: the slots, and the position in each."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        assert self.index is not None
        slots, position = self.index
        self.keys[slots, :, position] = key_states[:, :, 0].to(self.keys.dtype)
        self.values[slots, :, position] = value_states[:, :, 0].to(self.values.dtype)
        return self.keys.to(key_states.dtype), self.values.to(value_states.dtype)  # float32 in a comparison

    def get_seq_length(self) -> int:
        """The capacity minus one: transformers adds one position, and the sum must be the width of the mask."""
        return int(self.keys.shape[2]) - 1


def next_power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << max(0, number - 1).bit_length()


def capacity_for(length: int) -> int:
    """The capacity of a slot for `length` positions: a number of blocks that is a power of two, in positions."""
    return BLOCK_TOKENS * next_power_of_two(-(-length // BLOCK_TOKENS))
