"""Caches what one model has computed: features of images, and keys and values of finished answers.

A cache holds tensors on the model's device, up to a number of bytes, and drops the least recently used first. Depends
on tensors and their keys; must not import requests. Only the thread that calls `step` uses them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeAlias

import torch

KeyValuePair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer."""

KeyValues: TypeAlias = Sequence[KeyValuePair]
"""Keys and values of every layer, each (heads, positions, width)."""

PrefixKey: TypeAlias = Sequence[Hashable]
"""One value for each position: a `Prompt.prefix_key`, and then the ids of the answer, if any."""

MAX_PREFIX_BYTES, PREFIX_MEMORY_SHARE = 2_000_000_000, 0.125
"""The limits of the prefix cache: bytes, and a share of free memory. The first is about thirty conversations of 200
positions on BLIP-2 OPT-2.7B in bf16."""


def layer_pairs(tensor: torch.Tensor) -> list[KeyValuePair]:
    """The keys and the values of every layer, from one tensor (2 * layers, ...)."""
    parts = tensor.unbind()
    return list(zip(parts[::2], parts[1::2], strict=True))


class StackedKeyValues(Sequence[KeyValuePair]):
    """`KeyValues` as one `tensor` (2 * layers, heads, positions, width), which one operation copies."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor) // 2

    def __getitem__(self, layer: Any) -> Any:
        return layer_pairs(self.tensor)[layer] if isinstance(layer, slice) else self._pair(range(len(self))[layer])

    def _pair(self, layer: int) -> KeyValuePair:
        return self.tensor[2 * layer], self.tensor[2 * layer + 1]

    def first(self, length: int) -> StackedKeyValues:
        """The first `length` positions, not copied."""
        return StackedKeyValues(self.tensor[:, :, :length])


def stacked(key_values: KeyValues) -> torch.Tensor:
    """Keys and values as one tensor (2 * layers, heads, positions, width)."""
    if isinstance(key_values, StackedKeyValues):
        return key_values.tensor
    return torch.stack([part for pair in key_values for part in pair])


class ImageFeatureCache:
    """Image features, each (positions, hidden), by key. `hits` counts the images that were found."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def get_or_encode(
        self, pixels: Iterable[tuple[str, Any]], encode: Callable[[Sequence[Any]], Sequence[torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """The features of all images, by key. Missing ones are encoded as one batch and cached.

        `pixels` are pairs of key and pixel values; `encode` returns the features of a list of pixel values, in order.
        """
        pixels_by_key = dict(pixels)
        features = {key: cached for key in pixels_by_key if (cached := self._get(key)) is not None}
        missing = [key for key in pixels_by_key if key not in features]
        if missing:
            encoded = encode([pixels_by_key[key] for key in missing])
            for key, part in zip(missing, encoded, strict=True):
                # a slice of a batch would keep the whole batch alive
                features[key] = part.clone() if len(missing) > 1 else part
                self._put(key, features[key])
        return features

    def clear(self) -> None:
        """Drop all features; `hits` is kept."""
        self._features.clear()
        self.bytes = 0

    def _get(self, key: str) -> torch.Tensor | None:
        features = self._features.get(key)
        if features is not None:
            self.hits += 1
            self._features.move_to_end(key)
        return features

    def _put(self, key: str, features: torch.Tensor) -> None:
        if features.nbytes > self.max_bytes:
            return
        self._features[key] = features
        self.bytes += features.nbytes
        while self.bytes > self.max_bytes:
            _, oldest = self._features.popitem(last=False)
            self.bytes -= oldest.nbytes


class _Prefix:
    """A cache entry: the prefix key of a finished answer with its prompt, and their keys and values."""

    def __init__(self, key: PrefixKey, key_values: KeyValues) -> None:
        self.key = key
        self.key_values = key_values
        self.nbytes = (
            key_values.tensor.nbytes
            if isinstance(key_values, StackedKeyValues)  # which is much faster than layer by layer
            else sum(keys.nbytes + values.nbytes for keys, values in key_values)
        )


class PrefixCache:
    """Keys and values of finished answers of decoder-only models. A follow-up question repeats its conversation, so
    only its new positions are prefilled. `hits` counts the prompts that began with cached positions.

    Prompts are compared position by position, not as text: a text that is tokenised differently later is only a miss.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self._prefixes: OrderedDict[int, _Prefix] = OrderedDict()
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._prefixes)

    def put(self, key: PrefixKey, key_values: KeyValues) -> None:
        """Cache the keys and values of a prompt with its answer; `key` has one value for each of their positions.

        An earlier entry that this one continues is dropped.
        """
        prefix = _Prefix(tuple(key), key_values)
        if prefix.nbytes > self.max_bytes:
            return
        for prefix_id, earlier in list(self._prefixes.items()):
            if prefix.key[: len(earlier.key)] == earlier.key:
                self._drop(prefix_id)
        self._last_id += 1
        self._prefixes[self._last_id] = prefix
        self.bytes += prefix.nbytes
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._prefixes)))

    def get(self, key: PrefixKey, *, at_least: int = 1) -> KeyValues | None:
        """The keys and values of the longest cached prefix of a prompt; None if shorter than `at_least` positions.

        The prompt's last position is never included, because it must be computed for its logits.
        """
        prefix_id, length = self._longest(key, at_least)
        if not length:
            return None
        self.hits += 1
        self._prefixes.move_to_end(prefix_id)
        key_values = self._prefixes[prefix_id].key_values
        if isinstance(key_values, StackedKeyValues):
            return key_values.first(length)
        return [(keys[:, :length], values[:, :length]) for keys, values in key_values]

    def cached_positions(self, key: PrefixKey, *, at_least: int = 1) -> int:
        """How many cached positions `get` would return."""
        return self._longest(key, at_least)[1]

    def clear(self) -> None:
        """Drop everything except `hits`."""
        self._prefixes.clear()
        self.bytes = 0

    def _longest(self, key: PrefixKey, at_least: int) -> tuple[int, int]:
        """The id of the entry that shares the longest prefix with a prompt, and the number of shared positions; (0, 0)
        if none shares `at_least` of them."""
        best_id, best_length = 0, 0
        head = tuple(key[:at_least])
        for prefix_id, prefix in self._prefixes.items():
            if prefix.key[: len(head)] != head:  # by far the most frequent case, and the fastest comparison
                continue
            length = _common_length(prefix.key, key[:-1])
            if length >= at_least and length > best_length:
                best_id, best_length = prefix_id, length
        return best_id, best_length

    def _drop(self, prefix_id: int) -> None:
        self.bytes -= self._prefixes.pop(prefix_id).nbytes


def prefix_cache_bytes(free: int | None) -> int:
    """The maximum size of a prefix cache in bytes, if `free` bytes of memory are free; None means unknown."""
    return MAX_PREFIX_BYTES if free is None else min(MAX_PREFIX_BYTES, int(free * PREFIX_MEMORY_SHARE))


def _common_length(first: PrefixKey, second: PrefixKey) -> int:
    """The length of the common prefix of two keys."""
    length = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        length += 1
    return length
