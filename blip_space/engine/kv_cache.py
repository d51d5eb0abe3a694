"""The keys and values of rows that are decoded together, in buffers with spare capacity.

A step writes one position in place, and a new row takes the place of a removed one; everything is copied only when the
buffers are too small or far too large. Depends on transformers' cache layers, whose shape is (rows, heads, positions,
width); must not import a language model, and has no mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from blip_space.engine.caches import KeyValues
from blip_space.models.transfer import select_rows

BLOCK_TOKENS = 64
"""Buffers grow by so many positions at a time, so that most steps copy nothing."""


class KVCache:
    """The keys and values of every layer for all rows, as transformers writes and reads them."""

    def __init__(self) -> None:
        self.dynamic_cache = DynamicCache()
        self.dynamic_cache.layer_class_to_replicate = _Layer

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.dynamic_cache.layers)

    @classmethod
    def from_row(cls, layers: Iterable[tuple[torch.Tensor, torch.Tensor]], length: int) -> KVCache:
        """One row of so many positions, whose keys and values, each (1, heads, positions, width), are these."""
        cache = cls()
        cache.dynamic_cache.layers = [_Layer.filled(keys, values, length) for keys, values in layers]
        return cache

    @property
    def layers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The keys and values of every layer, each (rows, heads, positions, width)."""
        return [(layer.keys, layer.values) for layer in self.dynamic_cache.layers]

    def load_prefixes(self, cached: Sequence[KeyValues | None]) -> list[int]:
        """Start with the keys and values of earlier positions, padded on the left; how many each row has."""
        first = next(past for past in cached if past)
        lengths = [past[0][0].shape[1] if past else 0 for past in cached]
        longest = max(lengths)
        for number, (keys, values) in enumerate(first):
            parts = []
            for side, pattern in enumerate((keys, values)):
                buffer = pattern.new_zeros(len(cached), pattern.shape[0], round_up_to_block(longest), pattern.shape[2])
                for row, past in enumerate(cached):
                    if past:
                        buffer[row, :, longest - lengths[row] : longest] = past[number][side]
                parts.append(buffer)
            self.dynamic_cache.layers.append(_Layer.filled(parts[0], parts[1], longest))
        return lengths

    def close_gaps(self, gaps: Sequence[int], lengths: Sequence[int]) -> None:
        """Move all but the last `lengths` positions of each row, one for each row, so many positions to the right."""
        width = self.dynamic_cache.get_seq_length()
        for row, (gap, length) in enumerate(zip(gaps, lengths, strict=True)):
            if gap:  # by slices, which a processor copies many times faster than by an index for each number
                end = width - length
                for part in (part for layer in self.layers for part in layer):
                    part[row, :, gap:end] = part[row, :, : end - gap].clone()

    def copy(self, row: int, padding_left: int, padding_right: int = 0) -> KVCache:
        """That row alone, in buffers of its own, without so many positions at its ends."""
        other = KVCache()
        other.dynamic_cache.layers = [
            layer.copy(row, padding_left, padding_right) for layer in self.dynamic_cache.layers
        ]
        return other

    def key_values(self, row: int, length: int) -> KeyValues:
        """Copies of the last positions of a row."""
        return [(keys[row, :, -length:].clone(), values[row, :, -length:].clone()) for keys, values in self.layers]

    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        """Overwrite rows with others: each move is (row, the row that it becomes), all read before any is written."""
        targets, sources = ([move[side] for move in moves] for side in (0, 1))
        for layer in self.dynamic_cache.layers:
            layer.keys[targets] = layer.keys[sources]
            layer.values[targets] = layer.values[sources]

    def append(self, other: KVCache, *, left: bool = True) -> None:
        """Append the other's rows; the shorter of the two is padded on the left, or else on the right."""
        if not self.dynamic_cache.layers:
            self.dynamic_cache = other.dynamic_cache
            return
        for mine, theirs in zip(self.dynamic_cache.layers, other.dynamic_cache.layers, strict=True):
            mine.append(theirs, left=left)

    def select(self, rows: Sequence[int], padding_left: int, padding_right: int = 0) -> None:
        """Keep these rows, without the positions that are padding in all of them."""
        for layer in self.dynamic_cache.layers:
            layer.select(rows, padding_left, padding_right)


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """A layer's keys and values: the first rows and positions of two buffers (places, heads, capacity, width).

    The buffers are finite everywhere, so that attention may read them whole and give the rest no weight.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._buffers: tuple[torch.Tensor, ...] = ()

    @classmethod
    def filled(cls, keys: torch.Tensor, values: torch.Tensor, length: int) -> _Layer:
        """A layer whose buffers hold so many positions already."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer._buffers = (keys, values)
        layer._show(len(keys), length)
        return layer

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = tuple(_allocate(part[:0, :, :0], 0, 0) for part in (key_states, value_states))
            self._show(0, 0)
        rows, held = len(key_states), self.get_seq_length()
        length = held + key_states.shape[-2]
        self._reserve(rows, length)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, held:length] = new
        self._show(rows, length)
        return self.keys, self.values

    def copy(self, row: int, padding_left: int, padding_right: int) -> _Layer:
        end = self.get_seq_length() - padding_right
        parts = (part[row : row + 1, :, padding_left:end] for part in (self.keys, self.values))
        keys, values = (_allocate(part, 1, end - padding_left) for part in parts)
        return _Layer.filled(keys, values, end - padding_left)

    def append(self, other: _Layer, *, left: bool) -> None:
        rows, held = len(self.keys), self.get_seq_length()
        length = max(held, other.get_seq_length())
        self._reserve(rows + len(other.keys), length, padding=length - held if left else 0)
        for buffer, theirs in zip(self._buffers, (other.keys, other.values), strict=True):
            end = length if left else theirs.shape[2]
            free = buffer[rows : rows + len(theirs)]
            free[:, :, : end - theirs.shape[2]] = 0  # nothing of a removed row is left
            free[:, :, end - theirs.shape[2] : end] = theirs
            free[:, :, end:] = 0
        self._show(rows + len(other.keys), length)

    def select(self, rows: Sequence[int], padding_left: int, padding_right: int) -> None:
        end = self.get_seq_length() - padding_right
        length = end - padding_left
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        if padding_left or self._is_wasteful(len(rows), length) or any(row < len(rows) for _, row in moved):
            parts = [select_rows(part[:, :, padding_left:end], rows) for part in (self.keys, self.values)]
            self._buffers = tuple(_allocate(part, len(rows), length) for part in parts)
        else:
            for buffer in self._buffers:
                for place, row in moved:
                    buffer[place] = buffer[row]
        self._show(len(rows), length)

    def _reserve(self, rows: int, length: int, *, padding: int = 0) -> None:
        """Have room for that many, with so much padding in front of what there is."""
        places, _, capacity, _ = self._buffers[0].shape
        if padding or rows > places or length > capacity:
            places = max(rows, places)
            self._buffers = tuple(_allocate(part, places, length, padding) for part in (self.keys, self.values))

    def _is_wasteful(self, rows: int, length: int) -> bool:
        places, _, capacity, _ = self._buffers[0].shape
        return 2 * rows < places or round_up_to_block(length) + BLOCK_TOKENS < capacity

    def _show(self, rows: int, length: int) -> None:
        self.keys, self.values = (buffer[:rows, :, :length] for buffer in self._buffers)


def _allocate(part: torch.Tensor, places: int, length: int, padding: int = 0) -> torch.Tensor:
    """A buffer for so many rows and positions that begins with these, and zeros elsewhere."""
    rows, heads, held, width = part.shape
    buffer = part.new_empty(places, heads, round_up_to_block(length), width)
    buffer[:rows, :, :padding] = 0
    buffer[:rows, :, padding : padding + held] = part
    buffer[:rows, :, padding + held :] = 0
    buffer[rows:] = 0
    return buffer


def round_up_to_block(length: int) -> int:
    """The capacity for so many positions, which is whole blocks."""
    return -(-length // BLOCK_TOKENS) * BLOCK_TOKENS
