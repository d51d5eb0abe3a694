"""The keys and values of left-aligned rows, in buffers with unused capacity.

A step writes one position in place, and a new row overwrites a removed one; everything is copied only when the buffers
are too small or far too large. Depends on transformers' cache layers, of shape (rows, heads, positions, width); must
not import a language model. The mask is made by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from blip_space.engine.caches import KeyValues
from blip_space.models.transfer import select_rows

BLOCK_TOKENS = 64
"""Buffers grow by this many positions at a time, so that most steps copy nothing."""


class KVCache:
    """The keys and values of every layer for all rows; `dynamic_cache` is what transformers updates."""

    def __init__(self) -> None:
        self.dynamic_cache = DynamicCache()
        self.dynamic_cache.layer_class_to_replicate = _Layer

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.dynamic_cache.layers)

    @classmethod
    def from_row(cls, layers: Iterable[tuple[torch.Tensor, torch.Tensor]], length: int) -> KVCache:
        """A cache of one row of `length` positions; its keys and values are each (1, heads, positions, width)."""
        cache = cls()
        cache.dynamic_cache.layers = [_Layer.from_buffers(keys, values, length) for keys, values in layers]
        return cache

    @property
    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The keys and values of every layer, each (rows, heads, positions, width)."""
        return [(layer.keys, layer.values) for layer in self.dynamic_cache.layers]

    def load_prefixes(self, cached: Sequence[KeyValues | None]) -> list[int]:
        """Fill the empty cache with prefixes, one for each row, padded on the left; returns the length of each."""
        first = next(prefix for prefix in cached if prefix)
        lengths = [prefix[0][0].shape[1] if prefix else 0 for prefix in cached]
        longest = max(lengths)
        for number, pair in enumerate(first):
            buffers = []
            for side, pattern in enumerate(pair):
                buffer = pattern.new_zeros(len(cached), pattern.shape[0], round_up_to_block(longest), pattern.shape[2])
                for row, prefix in enumerate(cached):
                    if prefix:
                        buffer[row, :, longest - lengths[row] : longest] = prefix[number][side]
                buffers.append(buffer)
            self.dynamic_cache.layers.append(_Layer.from_buffers(buffers[0], buffers[1], longest))
        return lengths

    def close_gaps(self, gaps: Sequence[int], lengths: Sequence[int]) -> None:
        """Move all but the last `lengths[row]` positions of each row by `gaps[row]` positions to the right."""
        width = self.dynamic_cache.get_seq_length()
        for row, (gap, length) in enumerate(zip(gaps, lengths, strict=True)):
            if gap:  # by slices, which a CPU copies many times faster than by index
                end = width - length
                for part in (part for layer in self.layers for part in layer):
                    part[row, :, gap:end] = part[row, :, : end - gap].clone()

    def copy(self, row: int, padding_left: int, padding_right: int = 0) -> KVCache:
        """A copy of one row, without `padding_left` and `padding_right` positions at its ends."""
        copy = KVCache()
        layers: list[_Layer] = self.dynamic_cache.layers
        copy.dynamic_cache.layers = [layer.copy(row, padding_left, padding_right) for layer in layers]
        return copy

    def key_values(self, row: int, length: int) -> KeyValues:
        """Copies of the last `length` positions of a row."""
        return [(keys[row, :, -length:].clone(), values[row, :, -length:].clone()) for keys, values in self.layers]

    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        """Overwrite rows: each move is (target, source), and all sources are read before any target is written."""
        targets, sources = ([move[side] for move in moves] for side in (0, 1))
        for layer in self.dynamic_cache.layers:
            layer.keys[targets] = layer.keys[sources]
            layer.values[targets] = layer.values[sources]

    def append(self, other: KVCache, *, left: bool = True) -> None:
        """Append another cache's rows; the shorter rows are padded on the left if `left`, else on the right."""
        if not self.dynamic_cache.layers:
            self.dynamic_cache = other.dynamic_cache
            return
        for layer, other_layer in zip(self.dynamic_cache.layers, other.dynamic_cache.layers, strict=True):
            layer.append(other_layer, left=left)

    def select(self, rows: Sequence[int], padding_left: int, padding_right: int = 0) -> None:
        """Keep `rows`, in this order, without `padding_left` and `padding_right` positions at their ends."""
        for layer in self.dynamic_cache.layers:
            layer.select(rows, padding_left, padding_right)


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """One layer. `keys` and `values` are the beginning of two buffers (max rows, heads, capacity, width).

    The buffers hold only finite numbers, so masked positions have no weight in attention.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffers: tuple[torch.Tensor, ...] = ()

    @classmethod
    def from_buffers(cls, keys: torch.Tensor, values: torch.Tensor, length: int) -> _Layer:
        """A layer whose buffers hold `length` positions."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer._buffers = (keys, values)
        layer._set_views(len(keys), length)
        return layer

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = tuple(_allocate(part[:0, :, :0], 0, 0) for part in (key_states, value_states))
            self._set_views(0, 0)
        rows, start = len(key_states), self.get_seq_length()
        length = start + key_states.shape[-2]
        self._reserve(rows, length)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, start:length] = new
        self._set_views(rows, length)
        return self.keys, self.values

    def copy(self, row: int, padding_left: int, padding_right: int) -> _Layer:
        end = self.get_seq_length() - padding_right
        parts = (part[row : row + 1, :, padding_left:end] for part in (self.keys, self.values))
        keys, values = (_allocate(part, 1, end - padding_left) for part in parts)
        return _Layer.from_buffers(keys, values, end - padding_left)

    def append(self, other: _Layer, *, left: bool) -> None:
        rows, old_length = len(self.keys), self.get_seq_length()
        length = max(old_length, other.get_seq_length())
        self._reserve(rows + len(other.keys), length, padding=length - old_length if left else 0)
        for buffer, new in zip(self._buffers, (other.keys, other.values), strict=True):
            end = length if left else new.shape[2]
            target = buffer[rows : rows + len(new)]
            target[:, :, : end - new.shape[2]] = 0  # clear a removed row
            target[:, :, end - new.shape[2] : end] = new
            target[:, :, end:] = 0
        self._set_views(rows + len(other.keys), length)

    def select(self, rows: Sequence[int], padding_left: int, padding_right: int) -> None:
        end = self.get_seq_length() - padding_right
        length = end - padding_left
        moves = [(target, source) for target, source in enumerate(rows) if target != source]
        if padding_left or self._is_wasteful(len(rows), length) or any(source < len(rows) for _, source in moves):
            parts = [select_rows(part[:, :, padding_left:end], rows) for part in (self.keys, self.values)]
            self._buffers = tuple(_allocate(part, len(rows), length) for part in parts)
        else:
            for buffer in self._buffers:
                for target, source in moves:
                    buffer[target] = buffer[source]
        self._set_views(len(rows), length)

    def _reserve(self, rows: int, length: int, *, padding: int = 0) -> None:
        """Grow the buffers to this many rows and positions, with `padding` positions before the old ones."""
        max_rows, _, capacity, _ = self._buffers[0].shape
        if padding or rows > max_rows or length > capacity:
            max_rows = max(rows, max_rows)
            self._buffers = tuple(_allocate(part, max_rows, length, padding) for part in (self.keys, self.values))

    def _is_wasteful(self, rows: int, length: int) -> bool:
        max_rows, _, capacity, _ = self._buffers[0].shape
        return 2 * rows < max_rows or round_up_to_block(length) + BLOCK_TOKENS < capacity

    def _set_views(self, rows: int, length: int) -> None:
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self._buffers)


def _allocate(part: torch.Tensor, max_rows: int, length: int, padding: int = 0) -> torch.Tensor:
    """A buffer for this many rows and positions, with `part` after the padding, and zeros elsewhere."""
    rows, heads, old_length, width = part.shape
    buffer = part.new_empty(max_rows, heads, round_up_to_block(length), width)
    buffer[:rows, :, :padding] = 0
    buffer[:rows, :, padding : padding + old_length] = part
    buffer[:rows, :, padding + old_length :] = 0
    buffer[rows:] = 0
    return buffer


def round_up_to_block(length: int) -> int:
    """`length` positions, rounded up to complete blocks."""
    return -(-length // BLOCK_TOKENS) * BLOCK_TOKENS
