"""What one model has already computed: features of images, and keys and values of finished answers.

Each cache holds tensors of one model on its device within a bound of bytes, and forgets the least recently used first.
Depends on tensors, digests and token ids; must not import requests. Only the thread that steps the core uses them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch

KeyValues: TypeAlias = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of every layer, each (heads, positions, width)."""

MAX_PREFIX_BYTES, PREFIX_MEMORY_SHARE = 2_000_000_000, 0.125
"""How much of finished answers is kept, and of free memory at most: on BLIP-2 OPT-2.7B in bf16 the former holds about
thirty conversations of 200 positions."""


class ImageFeatureCache:
    """Image features, each (query_tokens, hidden), by the image's digest. `hits` counts the images that were found."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def get_or_encode(
        self, pixels: Iterable[tuple[str, Any]], encode: Callable[[Sequence[Any]], torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The features of images by digest; those that are not kept are encoded as one batch, and then kept.

        `pixels` are pairs of digest and pixel values; `encode` makes (n, query_tokens, hidden) of those.
        """
        wanted = dict(pixels)
        found = {digest: kept for digest in wanted if (kept := self._get(digest)) is not None}
        missing = [digest for digest in wanted if digest not in found]
        if missing:
            encoded = encode([wanted[digest] for digest in missing])
            for digest, features in zip(missing, encoded, strict=True):
                # a slice of a batch would keep the whole batch alive
                found[digest] = features.clone() if len(missing) > 1 else features
                self._put(digest, found[digest])
        return found

    def clear(self) -> None:
        """Forget all features; the count of hits stays."""
        self._features.clear()
        self.bytes = 0

    def _get(self, digest: str) -> torch.Tensor | None:
        features = self._features.get(digest)
        if features is not None:
            self.hits += 1
            self._features.move_to_end(digest)
        return features

    def _put(self, digest: str, features: torch.Tensor) -> None:
        if features.nbytes > self.max_bytes:
            return
        self._features[digest] = features
        self.bytes += features.nbytes
        while self.bytes > self.max_bytes:
            _, oldest = self._features.popitem(last=False)
            self.bytes -= oldest.nbytes


class _Prefix:
    """What was read for one answer: the image's positions, then those of the ids."""

    def __init__(self, ids: tuple[int, ...], key_values: KeyValues) -> None:
        self.ids = ids
        self.key_values = key_values
        self.nbytes = sum(keys.nbytes + values.nbytes for keys, values in key_values)


class PrefixCache:
    """Keys and values of finished answers of decoder-only models, by image: a follow-up repeats its conversation word
    for word up to its own question, so only what is new has to be read. `hits` counts the answers continued from.

    Ids are compared, not text, so a text that is tokenised otherwise the second time costs a hit and no more.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self._prefixes: OrderedDict[int, tuple[str, _Prefix]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._prefixes)

    def put(self, digest: str, ids: Sequence[int], key_values: KeyValues) -> None:
        """Keep what was read for an answer; `key_values` hold the image's positions and then one for each id.

        An earlier answer that this one continues is part of it and no longer kept.
        """
        prefix = _Prefix(tuple(ids), key_values)
        if prefix.nbytes > self.max_bytes:
            return
        for number, (image, earlier) in list(self._prefixes.items()):
            if image == digest and prefix.ids[: len(earlier.ids)] == earlier.ids:
                self._drop(number)
        self._count += 1
        self._prefixes[self._count] = (digest, prefix)
        self.bytes += prefix.nbytes
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._prefixes)))

    def get(self, digest: str, ids: Sequence[int], *, query_tokens: int) -> KeyValues | None:
        """The keys and values of the longest beginning of the ids that was read before, or None.

        The last id is always left to be read, since its logits are wanted.
        """
        number, common = self._longest(digest, ids)
        if not common:
            return None
        self.hits += 1
        self._prefixes.move_to_end(number)
        positions = query_tokens + common
        return [(keys[:, :positions], values[:, :positions]) for keys, values in self._prefixes[number][1].key_values]

    def cached_tokens(self, digest: str, ids: Sequence[int]) -> int:
        """How many of the first ids `get` would find."""
        return self._longest(digest, ids)[1]

    def clear(self) -> None:
        """Forget everything; the count of hits stays."""
        self._prefixes.clear()
        self.bytes = 0

    def _longest(self, digest: str, ids: Sequence[int]) -> tuple[int, int]:
        """Which answer has most of the ids, and how many."""
        best, most = 0, 0
        for number, (image, prefix) in self._prefixes.items():
            if image == digest and (common := _common(prefix.ids, ids[:-1])) > most:
                best, most = number, common
        return best, most

    def _drop(self, number: int) -> None:
        _, prefix = self._prefixes.pop(number)
        self.bytes -= prefix.nbytes


def prefix_cache_bytes(free: int | None) -> int:
    """How large a prefix cache may be where so many bytes are free; None where nobody knows."""
    return MAX_PREFIX_BYTES if free is None else min(MAX_PREFIX_BYTES, int(free * PREFIX_MEMORY_SHARE))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many of the first ids are the same."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
