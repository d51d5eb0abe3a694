"""The keys and values of rows that are written together, in buffers with room.

A step writes one position in place, and who comes takes the place of who left; everything is copied only when the
buffers are too small or far too large. Knows transformers' cache layers, whose shape is (rows, heads, positions,
width); knows no language model and no mask.
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

    def copy(self, row: int, spare_left: int, spare_right: int = 0) -> Cache:
        """That row alone, in buffers of its own, without so many positions at its ends."""
        other = Cache()
        other.own.layers = [layer.copy(row, spare_left, spare_right) for layer in self.own.layers]
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
    """A layer's keys and values: the first rows and positions of two buffers (places, heads, capacity, width).

    The buffers are finite everywhere, so that attention may read them whole and give the rest no weight.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._rooms: tuple[torch.Tensor, ...] = ()

    @classmethod
    def filled(cls, keys: torch.Tensor, values: torch.Tensor, length: int) -> _Layer:
        """A layer whose buffers hold so many positions already."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer._rooms = (keys, values)
        layer._show(len(keys), length)
        return layer

    @property
    def nbytes(self) -> int:
        return sum(room.nbytes for room in self._rooms)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rooms = tuple(_room(part[:0, :, :0], 0, 0) for part in (key_states, value_states))
            self._show(0, 0)
        rows, held = len(key_states), self.get_seq_length()
        length = held + key_states.shape[-2]
        self._reserve(rows, length)
        for room, new in zip(self._rooms, (key_states, value_states), strict=True):
            room[:rows, :, held:length] = new
        self._show(rows, length)
        return self.keys, self.values

    def copy(self, row: int, spare_left: int, spare_right: int) -> _Layer:
        end = self.get_seq_length() - spare_right
        parts = (part[row : row + 1, :, spare_left:end] for part in (self.keys, self.values))
        keys, values = (_room(part, 1, end - spare_left) for part in parts)
        return _Layer.filled(keys, values, end - spare_left)

    def join(self, other: _Layer, *, left: bool) -> None:
        rows, held = len(self.keys), self.get_seq_length()
        length = max(held, other.get_seq_length())
        self._reserve(rows + len(other.keys), length, padding=length - held if left else 0)
        for room, theirs in zip(self._rooms, (other.keys, other.values), strict=True):
            end = length if left else theirs.shape[2]
            free = room[rows : rows + len(theirs)]
            free[:, :, : end - theirs.shape[2]] = 0  # nothing of whoever was there before is left
            free[:, :, end - theirs.shape[2] : end] = theirs
            free[:, :, end:] = 0
        self._show(rows + len(other.keys), length)

    def keep(self, rows: Sequence[int], spare_left: int, spare_right: int) -> None:
        end = self.get_seq_length() - spare_right
        length = end - spare_left
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        if spare_left or self._is_wasteful(len(rows), length) or any(row < len(rows) for _, row in moved):
            parts = [part[list(rows), :, spare_left:end] for part in (self.keys, self.values)]
            self._rooms = tuple(_room(part, len(rows), length) for part in parts)
        else:
            for room in self._rooms:
                for place, row in moved:
                    room[place] = room[row]
        self._show(len(rows), length)

    def _reserve(self, rows: int, length: int, *, padding: int = 0) -> None:
        """Have room for that many, with so much padding in front of what there is."""
        places, _, capacity, _ = self._rooms[0].shape
        if padding or rows > places or length > capacity:
            places = max(rows, places)
            self._rooms = tuple(_room(part, places, length, padding) for part in (self.keys, self.values))

    def _is_wasteful(self, rows: int, length: int) -> bool:
        places, _, capacity, _ = self._rooms[0].shape
        return 2 * rows < places or _roomy(length) + ROOM < capacity

    def _show(self, rows: int, length: int) -> None:
        self.keys, self.values = (room[:rows, :, :length] for room in self._rooms)


def _room(part: torch.Tensor, places: int, length: int, padding: int = 0) -> torch.Tensor:
    """A buffer for so many rows and positions that begins with these, and zeros elsewhere."""
    rows, heads, held, width = part.shape
    room = part.new_empty(places, heads, _roomy(length), width)
    room[:rows, :, :padding] = 0
    room[:rows, :, padding : padding + held] = part
    room[:rows, :, padding + held :] = 0
    room[rows:] = 0
    return room


def _roomy(length: int) -> int:
    return -(-length // ROOM) * ROOM
