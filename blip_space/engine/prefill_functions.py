"""The forward passes that prefill prompts for slots, for both kinds of decoder.

All that changes from call to call is in tensors, so each can be captured. Depends on decoders and transformers' cache
layers; must not import a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from blip_space.engine.caches import KeyValuePair, layer_pairs
from blip_space.engine.function_graphs import Tensors
from blip_space.engine.slot_cache import capacity_for
from blip_space.engine.slot_prefill import (
    Prefix,
    Sizes,
    SlotPrefill,
    lengths_and_offsets,
    pack,
    prefix_length,
    rounded_positions,
    rounded_rows,
)
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder
from blip_space.models.transfer import copy_to_device

LATER_QUESTION, ANSWERS = 24, (16, 64)
"""The numbers of tokens of later questions, and of the answers before them, whose prefill is captured before the
first."""

MIN_CACHED = 128
"""Graphs for continued conversations have so many cached positions or more, so that there are few."""


class DecoderOnlyPrefill(SlotPrefill):
    """Its new positions are padded on the left, between a row's prefix and its prompt."""

    _decoder: DecoderOnly

    def _compute(self, inputs: Tensors, *, is_padded: bool) -> Tensors:
        """Takes packed prompts (rows * new, hidden), their positions (axes, rows * new), numbers (3, rows): the length
        of each prompt, where it begins, and the length of its prefix; and prefixes (2 * layers, rows, heads, cached,
        width), if any. Returns logits, and keys and values (2 * layers, rows, heads, new, width)."""
        packed, positions, numbers = inputs[:3]
        prefixes = inputs[3] if len(inputs) > 3 else None
        # 1. Padding: it repeats a prompt's first position, and is masked.
        lengths, offsets, starts = numbers
        rows, new = len(lengths), len(packed) // len(lengths)
        order, padding = torch.arange(new, device=packed.device), (new - lengths)[:, None]
        index = ((order - padding).clamp(min=0) + offsets[:, None]).flatten()
        mask = order >= padding
        # 2. Prefixes, padded on the right.
        cache = _new_cache(prefixes)
        if prefixes is not None:
            mask = torch.cat([torch.arange(prefixes.shape[3], device=packed.device) < starts[:, None], mask], dim=1)
        # 3. The forward pass.
        logits = self._decoder.forward(
            embeddings=packed.index_select(0, index).view(rows, new, -1),
            positions=positions.index_select(1, index).view(-1, rows, new),
            mask=self._decoder.prompt_mask(mask.long(), new, is_padded=is_padded),
            key_values=cache,
        )
        return logits, _new_key_values(cache)

    def _first_sizes(self, rows: int, length: int) -> Sizes:
        return rows, length, 0

    def _later_sizes(self, rows: int, lengths: Sequence[int]) -> Sequence[Sizes]:
        return [(rows, LATER_QUESTION, length + answer) for length in lengths for answer in ANSWERS]

    def _sizes(self, prompts: Sequence[Embedded], prefixes: Sequence[Prefix]) -> Sizes:
        return len(prompts), max(map(len, prompts)), max(map(prefix_length, prefixes))

    def _rounded(self, sizes: Sizes) -> Sizes:
        rows, new, cached = sizes
        return rounded_rows(rows), rounded_positions(rows, new), capacity_for(max(cached, MIN_CACHED)) if cached else 0

    def _may_replace(self, other: int, cached: int) -> bool:
        return other >= cached

    def _new_inputs(self, sizes: Sizes) -> Tensors:
        rows, new, cached = sizes
        packed = self._new_packed(rows, new)
        positions = torch.zeros(self._decoder.axes, rows * new, dtype=torch.long, device=packed.device)
        numbers = torch.zeros(3, rows, dtype=torch.long, device=packed.device)
        if not cached:
            return packed, positions, numbers
        assert self._pattern is not None
        parts, _, heads, _, width = self._pattern.shape
        return packed, positions, numbers, self._pattern.new_zeros(parts, rows, heads, cached, width)

    def _fill(self, inputs: Tensors, prompts: Sequence[Embedded], prefixes: Sequence[Prefix]) -> None:
        packed, positions, numbers, *cached = inputs
        pack(packed, prompts)
        total = sum(map(len, prompts))
        positions[:, :total] = torch.cat([prompt.positions for prompt in prompts], dim=1)
        starts = [prefix_length(prefix) for prefix in prefixes]
        unused = [0] * (numbers.shape[1] - len(prompts))
        copy_to_device([*lengths_and_offsets(prompts, numbers.shape[1]), starts + unused], numbers)
        if cached:
            for row, (prefix, start) in enumerate(zip(prefixes, starts, strict=True)):
                if prefix is not None:
                    cached[0][:, row, :, :start] = prefix
                cached[0][:, row, :, start:] = 0  # what is masked must be finite

    def _example_start(self, cached: int, number: int) -> int:
        return max(0, cached - 3 * number % max(1, cached // 2))


class EncoderDecoderPrefill(SlotPrefill):
    """Encodes prompts, padded on the right, and decodes the start tokens, of which each prompt has equally many."""

    _decoder: EncoderDecoder

    def _compute(self, inputs: Tensors, *, is_padded: bool) -> Tensors:
        """Takes packed prompts (rows * new, hidden), and numbers (2 + start tokens, rows): the length of each prompt,
        where it begins, and its start tokens. Returns logits, keys and values (2 * layers, rows, heads, start tokens,
        width) of the decoder, and those of its cross-attention, of the prompt's positions."""
        packed, numbers = inputs
        # 1. Padding: it repeats a prompt's last position, and is masked.
        lengths, offsets, ids = numbers[0], numbers[1], numbers[2:].T
        rows, new = len(lengths), len(packed) // len(lengths)
        order, ends = torch.arange(new, device=packed.device), lengths[:, None]
        index = (torch.minimum(order, ends - 1) + offsets[:, None]).flatten()
        prompt_mask = self._decoder.prompt_mask((order < ends).long(), is_padded=is_padded)
        # 2. The encoder.
        states = self._decoder.encode(packed.index_select(0, index).view(rows, new, -1), prompt_mask)
        # 3. The decoder's first tokens.
        own, cross = _new_cache(None), _new_cache(None)
        count = ids.shape[1]
        logits = self._decoder.forward(
            ids.contiguous(),
            positions=torch.arange(count, device=packed.device).expand(1, rows, -1),
            mask=self._decoder.start_mask(torch.ones_like(ids), is_padded=False),
            states=states,
            prompt_mask=prompt_mask,
            self_attention=own,
            cross_attention=cross,
        )
        return logits, _new_key_values(own), _new_key_values(cross)

    def _first_sizes(self, rows: int, length: int) -> Sizes:
        assert self._example is not None
        return rows, length, len(self._example.start)

    def _sizes(self, prompts: Sequence[Embedded], prefixes: Sequence[Prefix]) -> Sizes:  # noqa: ARG002
        return len(prompts), max(map(len, prompts)), len(prompts[0].start)

    def _rounded(self, sizes: Sizes) -> Sizes:
        rows, new, count = sizes
        return rounded_rows(rows), rounded_positions(rows, new), count

    def _new_inputs(self, sizes: Sizes) -> Tensors:
        rows, new, count = sizes
        packed = self._new_packed(rows, new)
        return packed, torch.zeros(2 + count, rows, dtype=torch.long, device=packed.device)

    def _fill(self, inputs: Tensors, prompts: Sequence[Embedded], prefixes: Sequence[Prefix]) -> None:  # noqa: ARG002
        packed, numbers = inputs
        pack(packed, prompts)
        rows = numbers.shape[1]
        starts = [prompt.start for prompt in prompts] + [prompts[0].start] * (rows - len(prompts))
        copy_to_device([*lengths_and_offsets(prompts, rows), *map(list, zip(*starts, strict=True))], numbers)


class _PrefillLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """A layer that keeps the new keys and values apart from those of a prefix."""

    def __init__(self, prefix: KeyValuePair | None = None) -> None:
        super().__init__()
        self._prefix = prefix
        self.new: KeyValuePair | None = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        self.new = key_states, value_states
        if self._prefix is None:
            return self.new
        return tuple(torch.cat(parts, dim=2) for parts in zip(self._prefix, self.new, strict=True))

    def get_seq_length(self) -> int:
        return 0 if self._prefix is None else self._prefix[0].shape[2]


def _new_cache(prefixes: Prefix) -> DynamicCache:
    cache = DynamicCache()
    cache.layer_class_to_replicate = _PrefillLayer
    if prefixes is not None:
        cache.layers = [_PrefillLayer(pair) for pair in layer_pairs(prefixes)]
    return cache


def _new_key_values(cache: DynamicCache) -> torch.Tensor:
    """The new keys and values of all layers, (2 * layers, rows, heads, positions, width)."""
    return torch.stack([part for layer in cache.layers for part in layer.new])
