"""Keys and values in fixed slots: a row starts at the first position of its slot and never moves as others come and go.

Every layer has buffers (slots, heads, capacity, width); slots and capacity are powers of two, so that there are few
shapes. A step writes one position per slot but reads whole buffers, so unused positions must hold finite numbers: they
are zeros, or what a captured step was compared with. Buffers of which a graph has the addresses do not change. The mask
is made by the caller. Depends on transformers' cache layers; must not import a language model. Nothing here
synchronises with a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import BLOCK_TOKENS, KVCache
from blip_space.models.transfer import to_device

KeyValuePair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer."""


@dataclass(eq=False)
class SlotBuffers:
    """The buffers of every layer, all of one size; a captured graph has their addresses. `owner` is their cache."""

    owner: SlotCache
    slots: int = 0
    capacity: int = 0
    layers: list[KeyValuePair] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for layer in self.layers for part in layer)


class BufferKeeper(Protocol):
    """Keeps buffers that are not in use, for the graphs that have their addresses."""

    def has_graphs(self, buffers: SlotBuffers) -> bool:
        """Whether a graph has the addresses of these buffers, so that they must not change."""

    def keep(self, buffers: SlotBuffers) -> None:
        """Keep buffers of which graphs have the addresses, or drop these graphs."""

    def take(self, owner: SlotCache, slots: int, capacity: int) -> SlotBuffers | None:
        """Buffers of that size that were kept for this cache, filled with zeros."""


class SlotCache:
    """The keys and values of every layer, for all slots."""

    def __init__(self, keeper: BufferKeeper | None = None) -> None:
        self.buffers = SlotBuffers(self)
        self._keeper = keeper
        self._shapes: list[KeyValuePair] = []
        """Empty tensors with the shape and the dtype of each layer, after the first write."""

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
        return sum(part.shape[1] * part.shape[3] * part.itemsize for layer in self._shapes for part in layer)

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
        old, length, self._view = self.buffers, min(capacity, self.capacity), None
        new = self._keeper.take(self, slots, capacity) if self._keeper else None
        if new is None and self._keeper and self._keeper.has_graphs(old):
            new = SlotBuffers(self, slots, capacity, [_empty(layer, slots, capacity) for layer in old.layers])
        # without graphs each layer is replaced in place, so that only one of them takes its memory twice
        target = new or old
        for number, layer in enumerate(old.layers):
            index = to_device(kept, layer[0].device)
            resized = target.layers[number] if new else _empty(layer, slots, capacity)
            for buffer, part in zip(resized, layer, strict=True):
                buffer[: len(kept), :, :length] = part[:, :, :length].index_select(0, index)
            target.layers[number] = resized
        target.slots, target.capacity = slots, capacity
        self.buffers = target
        if new:
            self._retire(old)

    def clear(self) -> None:
        """Free all memory, but for buffers that are kept for their graphs."""
        old, self.buffers, self._view = self.buffers, SlotBuffers(self), None
        self._retire(old)

    def fill(self, slots: int, capacity: int) -> None:
        """Have buffers of this size with small numbers everywhere, as no row is in them. Not before the first write."""
        self.rebuild(slots, capacity, [])
        self._allocate()
        for part in (part for layer in self.buffers.layers for part in layer):
            part.normal_(std=0.1)

    def write(self, slots: Sequence[int], other: KVCache, lengths: Sequence[int], *, left: bool = True) -> None:
        """Overwrite `slots` with another cache's rows, which are padded on the left if `left`, else on the right."""
        parts = other.layers
        self._shapes = self._shapes or [
            _pair(part.new_empty(0, *part.shape[1:])[:, :, :0] for part in layer) for layer in parts
        ]
        self._allocate()
        device, width = parts[0][0].device, parts[0][0].shape[2]
        index, padding, ends = to_device(
            [slots, [width - length if left else 0 for length in lengths], lengths], device
        )
        positions = torch.arange(min(self.capacity, width), device=device)
        source = (positions + padding[:, None]).clamp(max=width - 1)[:, None, :, None]
        unused = (positions >= ends[:, None])[:, None, :, None]
        for layer, new in zip(self.buffers.layers, parts, strict=True):
            for buffer, part in zip(layer, new, strict=True):
                moved = part.gather(2, source.expand(-1, part.shape[1], -1, part.shape[3])).masked_fill(unused, 0)
                buffer[:, :, : len(positions)].index_copy_(0, index, moved)
                buffer[:, :, len(positions) :].index_fill_(0, index, 0)

    def copy(self, moves: Sequence[tuple[int, int]]) -> None:
        """Overwrite slots: each move is (target, source), and all sources are read before any target is written."""
        if not moves or not self.buffers.layers:
            return
        targets, sources = to_device(list(zip(*moves, strict=True)), self.buffers.layers[0][0].device)
        for layer in self.buffers.layers:
            for buffer in layer:
                buffer.index_copy_(0, targets, buffer.index_select(0, sources))

    def _allocate(self) -> None:
        buffers = self.buffers
        buffers.layers = buffers.layers or [_empty(layer, self.slots, self.capacity) for layer in self._shapes]

    def _retire(self, old: SlotBuffers) -> None:
        if self._keeper and old.layers:
            self._keeper.keep(old)

    def copy_row(self, slot: int, length: int) -> KVCache:
        """A copy of a slot's first `length` positions, as a cache of one left-aligned row."""
        layers = ([part[slot : slot + 1, :, :length].clone() for part in layer] for layer in self.buffers.layers)
        return KVCache.from_row(map(_pair, layers), length)

    def key_values(self, slot: int, length: int) -> KeyValues:
        """Copies of the keys and values of a slot's first `length` positions."""
        return [_pair(part[slot, :, :length].clone() for part in layer) for layer in self.buffers.layers]


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
        self.keys[slots, :, position] = key_states[:, :, 0]
        self.values[slots, :, position] = value_states[:, :, 0]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """The capacity minus one: transformers adds one position, and the sum must be the width of the mask."""
        return int(self.keys.shape[2]) - 1


def next_power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << max(0, number - 1).bit_length()


def capacity_for(length: int) -> int:
    """The capacity of a slot for `length` positions: a number of blocks that is a power of two, in positions."""
    return BLOCK_TOKENS * next_power_of_two(-(-length // BLOCK_TOKENS))


def _empty(layer: KeyValuePair, slots: int, capacity: int) -> KeyValuePair:
    """Buffers of zeros for a layer with the heads, width and dtype of this one."""
    return _pair(part.new_zeros(slots, part.shape[1], capacity, part.shape[3]) for part in layer)


def _pair(parts: Any) -> KeyValuePair:
    keys, values = parts
    return keys, values
