"""Pictures that a model has already encoded, the least recently used forgotten first.

Knows tensors and their size in bytes; knows nothing of how one is made. Only the worker's thread uses it, so nothing
here is locked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from PIL import Image

FeatureKey: TypeAlias = tuple[str, str, str]
"""The picture's digest, the model's name and the precision's: what a prefix depends on."""


class PrefixCache:
    """Prefixes by key within `max_bytes`. `hits` and `misses` count what `get` and `get_or_encode` were asked."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._prefixes: OrderedDict[FeatureKey, torch.Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._prefixes)

    def get(self, key: FeatureKey) -> torch.Tensor | None:
        """The prefix, now the most recently used, or None."""
        prefix = self._prefixes.get(key)
        if prefix is None:
            self.misses += 1
            return None
        self.hits += 1
        self._prefixes.move_to_end(key)
        return prefix

    def put(self, key: FeatureKey, prefix: torch.Tensor) -> None:
        """Keep a prefix, at the cost of the oldest; one that is larger than the whole cache is not kept."""
        self._drop(key)
        if prefix.nbytes > self.max_bytes:
            return
        # a slice of a batch would keep the whole batch alive
        owned = prefix if prefix.untyped_storage().nbytes() == prefix.nbytes else prefix.clone()
        self._prefixes[key] = owned
        self.bytes += owned.nbytes
        while self.bytes > self.max_bytes:
            self._drop(next(iter(self._prefixes)))

    def get_or_encode(self, key: FeatureKey, encode: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The prefix kept under the key, or the one that `encode` makes, which is then kept."""
        if (kept := self.get(key)) is not None:
            return kept
        prefix = encode()
        self.put(key, prefix)
        return prefix

    def get_or_encode_all(
        self, pictures: Mapping[FeatureKey, Image.Image], encode: Callable[[Sequence[Image.Image]], torch.Tensor]
    ) -> dict[FeatureKey, torch.Tensor]:
        """The prefixes of all these pictures, each (1, query_tokens, hidden); what is not kept is encoded as one
        batch."""
        found = {key: kept for key in pictures if (kept := self.get(key)) is not None}
        missing = [key for key in pictures if key not in found]
        if missing:
            encoded = encode([pictures[key] for key in missing])
            for place, key in enumerate(missing):
                found[key] = encoded[place : place + 1]
                self.put(key, found[key])
        return found

    def clear(self) -> None:
        """Forget every prefix; the counts stay."""
        self._prefixes.clear()
        self.bytes = 0

    def _drop(self, key: FeatureKey) -> None:
        if (prefix := self._prefixes.pop(key, None)) is not None:
            self.bytes -= prefix.nbytes
