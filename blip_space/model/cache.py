"""The keys and values of rows that are written together, in buffers with room.

A step writes one position in place; rows come and go by copying. Knows transformers' cache layers, whose shape is
(rows, heads, positions, width); knows no language model and no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from blip_space.model.turns import Past

ROOM = 64
"""Buffers grow by so many positions at a time, so that most steps copy nothing."""


class Cache:
    """The keys and values of every layer for all rows, as transformers writes and reads them."""

    def __init__(self) -> None:
        self.own = DynamicCache()
        self.own.layer_class_to_replicate = _Layer

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.own.layers)

    def begin(self, pasts: Sequence[Past | None], *, like: torch.Tensor) -> torch.Tensor:
        """Start with what rows have read before, padded on the left; the mask of it."""
        known = next(past for past in pasts if past)
        lengths = [past[0][0].shape[1] if past else 0 for past in pasts]
        longest = max(lengths)
        for number, (keys, values) in enumerate(known):
            parts = []
            for side, pattern in enumerate((keys, values)):
                room = pattern.new_zeros(len(pasts), pattern.shape[0], _roomy(longest), pattern.shape[2])
                for row, past in enumerate(pasts):
                    if past:
                        room[row, :, longest - lengths[row] : longest] = past[number][side]
                parts.append(room)
            self.own.layers.append(_Layer.filled(parts[0], parts[1], longest))
        ends = torch.tensor(lengths, device=like.device)
        return (torch.arange(longest, device=like.device) >= longest - ends[:, None]).long()

    def copy(self) -> Cache:
        """Layers of its own over the same buffers, which change places and lose rows without these."""
        other = Cache()
        other.own.layers = [
            _Layer.filled(layer.keys, layer.values, layer.get_seq_length()) for layer in self.own.layers
        ]
        return other

    def past(self, row: int, read: torch.Tensor) -> Past:
        """What a row has read, without its padding."""
        return [(layer.keys[row, :, read].clone(), layer.values[row, :, read].clone()) for layer in self.own.layers]

    def join(self, other: Cache, *, left: bool = True) -> None:
        """Append the other's rows; the shorter of the two is padded on the left, or else on the right."""
        if not self.own.layers:
            self.own = other.own
            return
        for mine, theirs in zip(self.own.layers, other.own.layers, strict=True):
            mine.join(theirs, left=left)

    def keep(self, rows: Sequence[int], spare_left: int, spare_right: int = 0) -> None:
        """Keep these rows, without the positions that are padding in all of them."""
        for layer in self.own.layers:
            layer.keep(rows, spare_left, spare_right)


class _Layer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """A layer's keys and values in buffers with room, so that a step writes one position and copies none."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._rooms: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def filled(cls, keys: torch.Tensor, values: torch.Tensor, length: int) -> _Layer:
        """A layer whose buffers hold so many positions already."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer._rooms = (keys, values)
        layer._show(length)
        return layer

    @property
    def nbytes(self) -> int:
        return sum(room.nbytes for room in self._rooms or ())

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        length = held + key_states.shape[-2]
        if self._rooms is None or self._rooms[0].shape[-2] < length:
            self._move(key_states.shape, value_states.shape, held, length)
        assert self._rooms is not None
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, held:length] = new
        self._show(length)
        return self.keys, self.values

    def join(self, other: _Layer, *, left: bool) -> None:
        length = max(self.get_seq_length(), other.get_seq_length())
        rooms = []
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            room = mine.new_zeros(len(mine) + len(theirs), mine.shape[1], _roomy(length), mine.shape[3])
            for place, part in ((slice(len(mine)), mine), (slice(len(mine), None), theirs)):
                end = length if left else part.shape[2]
                room[place, :, end - part.shape[2] : end] = part
            rooms.append(room)
        self._rooms = (rooms[0], rooms[1])
        self._show(length)

    def keep(self, rows: Sequence[int], spare_left: int, spare_right: int) -> None:
        end = self.get_seq_length() - spare_right
        rooms = []
        for part in (self.keys, self.values):
            room = part.new_empty(len(rows), part.shape[1], _roomy(end - spare_left), part.shape[3])
            room[:, :, : end - spare_left] = part[list(rows), :, spare_left:end]
            rooms.append(room)
        self._rooms = (rooms[0], rooms[1])
        self._show(end - spare_left)

    def _move(self, keys: torch.Size, values: torch.Size, held: int, length: int) -> None:
        old = (self.keys, self.values)
        rooms = []
        for shape, part in zip((keys, values), old, strict=True):
            room = torch.empty((*shape[:2], _roomy(length), shape[3]), dtype=self.dtype, device=self.device)
            if held:
                room[:, :, :held] = part
            rooms.append(room)
        self._rooms = (rooms[0], rooms[1])

    def _show(self, length: int) -> None:
        assert self._rooms is not None
        self.keys, self.values = (room[:, :, :length] for room in self._rooms)


def _roomy(length: int) -> int:
    return -(-length // ROOM) * ROOM
