"""Keys and values in fixed slots: a row starts at the first position of its slot and never moves as others come and go.

Every layer has buffers (slots, heads, capacity, width); slots and capacity are powers of two, so that there are few
shapes. A step writes one position per slot but reads whole buffers, so unused positions must hold finite numbers: they
are zeros. The mask is made by the caller. Depends on transformers' cache layers; must not import a language model.
Nothing here synchronises with a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import BLOCK_TOKENS, KVCache
from blip_space.models.transfer import to_device

KeyValuePair = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer."""


class SlotCache:
    """The keys and values of every layer, for all slots."""

    def __init__(self) -> None:
        self.slots = self.capacity = 0
        self._buffers: list[KeyValuePair] = []
        self._view: DynamicCache | None = None
        self._view_slots = 0

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for layer in self._buffers for part in layer)

    def view(self, count: int, position: torch.Tensor | None = None) -> DynamicCache:
        """The first `count` slots as a transformers cache, which writes the next token at `position` (count,)."""
        if self._view is None or self._view_slots != count:
            self._view_slots, self._view = count, DynamicCache()
            self._view.layers = [_SlotLayer(*(part[:count] for part in layer)) for layer in self._buffers]
        if position is not None:
            index = torch.arange(count, device=position.device), position
            for layer in self._view.layers:
                layer.index = index
        return self._view

    def rebuild(self, slots: int, capacity: int, kept: Sequence[int]) -> None:
        """Allocate buffers of another size, and copy the slots `kept` to their first slots, in this order."""
        length, self._view = min(capacity, self.capacity), None
        for number, layer in enumerate(self._buffers):
            index = to_device(kept, layer[0].device)
            self._buffers[number] = _pair(_resized(part, slots, capacity, index, length) for part in layer)
        self.slots, self.capacity = slots, capacity

    def clear(self) -> None:
        """Free all memory."""
        self._buffers, self._view, self.slots, self.capacity = [], None, 0, 0

    def write(self, slots: Sequence[int], other: KVCache, lengths: Sequence[int], *, left: bool = True) -> None:
        """Overwrite `slots` with another cache's rows, which are padded on the left if `left`, else on the right."""
        parts = other.layers
        if not self._buffers:
            self._buffers = [_pair(_allocate(part, self.slots, self.capacity) for part in layer) for layer in parts]
        device, width = parts[0][0].device, parts[0][0].shape[2]
        index, padding, ends = to_device(
            [slots, [width - length if left else 0 for length in lengths], lengths], device
        )
        positions = torch.arange(min(self.capacity, width), device=device)
        source = (positions + padding[:, None]).clamp(max=width - 1)[:, None, :, None]
        unused = (positions >= ends[:, None])[:, None, :, None]
        for layer, new in zip(self._buffers, parts, strict=True):
            for buffer, part in zip(layer, new, strict=True):
                moved = part.gather(2, source.expand(-1, part.shape[1], -1, part.shape[3])).masked_fill(unused, 0)
                buffer[:, :, : len(positions)].index_copy_(0, index, moved)
                buffer[:, :, len(positions) :].index_fill_(0, index, 0)

    def copy(self, moves: Sequence[tuple[int, int]]) -> None:
        """Overwrite slots: each move is (target, source), and all sources are read before any target is written."""
        if not moves or not self._buffers:
            return
        targets, sources = to_device(list(zip(*moves, strict=True)), self._buffers[0][0].device)
        for layer in self._buffers:
            for buffer in layer:
                buffer.index_copy_(0, targets, buffer.index_select(0, sources))

    def copy_row(self, slot: int, length: int) -> KVCache:
        """A copy of a slot's first `length` positions, as a cache of one left-aligned row."""
        layers = ([part[slot : slot + 1, :, :length].clone() for part in layer] for layer in self._buffers)
        return KVCache.from_row(map(_pair, layers), length)

    def key_values(self, slot: int, length: int) -> KeyValues:
        """Copies of the keys and values of a slot's first `length` positions."""
        return [_pair(part[slot, :, :length].clone() for part in layer) for layer in self._buffers]


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


def _resized(part: torch.Tensor, slots: int, capacity: int, kept: torch.Tensor, length: int) -> torch.Tensor:
    buffer = _allocate(part, slots, capacity)
    buffer[: len(kept), :, :length] = part[:, :, :length].index_select(0, kept)
    return buffer


def _allocate(part: torch.Tensor, slots: int, capacity: int) -> torch.Tensor:
    return part.new_zeros(slots, part.shape[1], capacity, part.shape[3])


def _pair(parts: Any) -> KeyValuePair:
    keys, values = parts
    return keys, values
