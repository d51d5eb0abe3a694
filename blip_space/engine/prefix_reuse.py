"""Keys and values of finished answers for later turns: which are kept, and which prompts begin with them.

Depends on the prefix cache, sequences and a batch; must not run the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from blip_space.engine.batch_interface import Batch
from blip_space.engine.caches import KeyValues, PrefixCache
from blip_space.engine.request import PreparedRequest
from blip_space.engine.sequence import FinishReason, Sequence
from blip_space.loading.memory import is_out_of_memory

log = logging.getLogger(__name__)


class PrefixReuse:
    """The prefix cache, and the rules by which sequences use it."""

    def __init__(self, max_bytes: int, *, streams: bool) -> None:
        """Without `streams` no user asks on, so nothing is kept."""
        self.cache = PrefixCache(max_bytes)
        self._streams = streams

    def keep(self, sequence: Sequence, batch: Batch, index: int, *, on_out_of_memory: Callable[[], object]) -> None:
        """Cache a finished stream's keys and values, which exist for all but its last token, from a row of the batch;
        if memory runs out, call `on_out_of_memory` instead."""
        is_continued = self._streams and not sequence.is_background
        if not is_continued or sequence.uses_beam_search or sequence.finish_reason is FinishReason.FAILED:
            return
        try:
            key_values = batch.key_values(index)
            if key_values:
                key = [*sequence.request.prompt.prefix_key, *sequence.ids]
                self.cache.put(key[: prefix_length(key_values)], key_values)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("out of memory while a prefix was cached: the caches are cleared")
            on_out_of_memory()

    def find(self, request: PreparedRequest) -> KeyValues | None:
        """The cached keys and values with which a prompt begins, if any."""
        if not _may_have_prefix(request):
            return None
        return self.cache.get(request.prompt.prefix_key, at_least=request.prompt.min_prefix_length)

    def uncached_tokens(self, request: PreparedRequest) -> int:
        """How many positions of a prompt would be prefilled now."""
        prompt, cached = request.prompt, 0
        if _may_have_prefix(request):
            cached = self.cache.cached_positions(prompt.prefix_key, at_least=prompt.min_prefix_length)
        return len(prompt) - cached


def prefix_length(key_values: KeyValues) -> int:
    """How many positions keys and values have."""
    return key_values[0][0].shape[1]


def _may_have_prefix(request: PreparedRequest) -> bool:
    return request.continues_conversation and request.options.quality == "stream"
