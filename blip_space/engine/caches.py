"""What one model has already computed: features of images, and keys and values of finished answers.

Each cache holds tensors of one model on its device within a bound of bytes, and forgets the least recently used first.
Depends on tensors and their keys; must not import requests. Only the thread that steps the core uses them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeAlias

import torch

KeyValues: TypeAlias = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of every layer, each (heads, positions, width)."""

PrefixKey: TypeAlias = Sequence[Hashable]
"""What was read, one value a position: `Prompt.prefix_key`."""

MAX_PREFIX_BYTES, PREFIX_MEMORY_SHARE = 2_000_000_000, 0.125
"""How much of finished answers is kept, and of free memory at most: on BLIP-2 OPT-2.7B in bf16 the former holds about
thirty conversations of 200 positions."""


class ImageFeatureCache:
    """Image features, each (positions, hidden), by their key. `hits` counts the images that were found."""

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
        """The features of images by key; those that are not kept are encoded as one batch, and then kept.

        `pixels` are pairs of key and pixel values; `encode` makes the features of those, in their order.
        """
        wanted = dict(pixels)
        found = {key: kept for key in wanted if (kept := self._get(key)) is not None}
        missing = [key for key in wanted if key not in found]
        if missing:
            encoded = encode([wanted[key] for key in missing])
            for key, features in zip(missing, encoded, strict=True):
                # a slice of a batch would keep the whole batch alive
                found[key] = features.clone() if len(missing) > 1 else features
                self._put(key, found[key])
        return found

    def clear(self) -> None:
        """Forget all features; the count of hits stays."""
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
    """What was read for one answer: a value for each position, and the keys and values."""

    def __init__(self, key: PrefixKey, key_values: KeyValues) -> None:
        self.key = key
        self.key_values = key_values
        self.nbytes = sum(keys.nbytes + values.nbytes for keys, values in key_values)


class PrefixCache:
    """Keys and values of finished answers of decoder-only models: a follow-up repeats its conversation word for word up
    to its own question, so only what is new has to be read. `hits` counts the answers continued from.

    What was read is compared position by position (`Prompt.prefix_key`), not as text, so a text that is tokenised
    otherwise the second time costs a hit and no more.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self._prefixes: OrderedDict[int, _Prefix] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._prefixes)

    def put(self, key: PrefixKey, key_values: KeyValues) -> None:
        """Keep what was read for an answer, with a value in the key for each position of `saved_row`.

        An earlier answer that this one continues is part of it and no longer kept.
        """
        prefix = _Prefix(tuple(key), key_values)
        if prefix.nbytes > self.max_bytes:
            return
        for number, earlier in list(self._prefixes.items()):
            if prefix.key[: len(earlier.key)] == earlier.key:
                self._drop(number)
        self._count += 1
        self._prefixes[self._count] = prefix
        self.bytes += prefix.nbytes
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._prefixes)))

    def get(self, key: PrefixKey, *, at_least: int = 1) -> KeyValues | None:
        """The keys and values of the longest beginning of that prompt that was read before, or None where it has fewer
        than `at_least` positions.

        The last position is always left to be read, since its logits are wanted.
        """
        number, common = self._longest(key, at_least)
        if not common:
            return None
        self.hits += 1
        self._prefixes.move_to_end(number)
        return [(keys[:, :common], values[:, :common]) for keys, values in self._prefixes[number].key_values]

    def cached_positions(self, key: PrefixKey, *, at_least: int = 1) -> int:
        """How many of the first positions `get` would find."""
        return self._longest(key, at_least)[1]

    def clear(self) -> None:
        """Forget everything; the count of hits stays."""
        self._prefixes.clear()
        self.bytes = 0

    def _longest(self, key: PrefixKey, at_least: int) -> tuple[int, int]:
        """Which answer has most of the positions, and how many."""
        best, most = 0, 0
        head = tuple(key[:at_least])
        for number, prefix in self._prefixes.items():
            if prefix.key[: len(head)] != head:  # by far the most frequent case, and the fastest comparison
                continue
            common = _common(prefix.key, key[:-1])
            if common >= at_least and common > most:
                best, most = number, common
        return best, most

    def _drop(self, number: int) -> None:
        self.bytes -= self._prefixes.pop(number).nbytes


def prefix_cache_bytes(free: int | None) -> int:
    """How large a prefix cache may be where so many bytes are free; None where nobody knows."""
    return MAX_PREFIX_BYTES if free is None else min(MAX_PREFIX_BYTES, int(free * PREFIX_MEMORY_SHARE))


def _common(one: PrefixKey, other: PrefixKey) -> int:
    """How many of the first values are the same."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
