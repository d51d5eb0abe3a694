"""Left-aligned batches for decoder-only and encoder-decoder models: the forward passes, and the keys and values.

Depends on left-aligned rows and the two kinds of decoder; must not import requests or sampling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import KVCache
from blip_space.engine.left_aligned_rows import LeftAlignedBatch
from blip_space.engine.padding import length_mask, pad, stack_masks, trimmable_padding
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder
from blip_space.models.transfer import select_rows, to_device


class DecoderOnlyBatch(LeftAlignedBatch):
    """A batch of a decoder-only model: a row holds a prompt and its answer."""

    def __init__(self, decoder: DecoderOnly) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self.cache = KVCache()

    @property
    def nbytes(self) -> int:
        return self.cache.nbytes

    def _forward(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, DecoderOnlyBatch]:
        # 1. Mask and lengths: the cached prefixes, then the prompts, each padded on the left.
        batch = DecoderOnlyBatch(self._decoder)
        embeddings, mask, positions = pad(prompts, left=True)
        prefixes, new = [0] * len(prompts), [len(prompt) for prompt in prompts]
        if any(cached):
            prefixes = batch.cache.load_prefixes(cached)
            mask = torch.cat([length_mask(prefixes, left=True, device=mask.device), mask], dim=1)
        batch.lengths = [prefix + length for prefix, length in zip(prefixes, new, strict=True)]
        batch.next_positions = [prompt.next_position for prompt in prompts]
        is_padded = len(set(prefixes)) > 1 or len(set(new)) > 1
        # 2. One forward pass.
        logits = self._decoder.forward(
            embeddings=embeddings,
            positions=positions,
            mask=self._decoder.prompt_mask(mask, embeddings.shape[1], is_padded=is_padded),
            key_values=batch.cache.dynamic_cache,
        )
        # 3. A shorter prompt has padding between its prefix and itself: move the prefix next to it.
        batch._mask = mask
        if any(cached) and len(set(new)) > 1:
            batch.cache.close_gaps([max(new) - length for length in new], new)
            batch._mask = length_mask(batch.lengths, left=True, device=mask.device, width=mask.shape[1])
        return logits, batch

    @torch.inference_mode()
    def key_values(self, row: int) -> KeyValues | None:
        return self.cache.key_values(row, self.lengths[row])

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self.cache.reorder(moves)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        ids, positions = self._advance(tokens, self._decoder.axes)
        return self._decoder.forward(ids=ids, positions=positions, mask=self._mask, key_values=self.cache.dynamic_cache)

    @torch.inference_mode()
    def copy(self, row: int) -> DecoderOnlyBatch:
        padding = self._mask.shape[1] - self.lengths[row]
        return DecoderOnlyBatch.from_row(
            self._decoder, self.cache.copy(row, padding), self.lengths[row], self.next_positions[row]
        )

    @classmethod
    def from_row(cls, decoder: DecoderOnly, cache: KVCache, length: int, next_position: int) -> DecoderOnlyBatch:
        """A batch of one row without padding, from its keys and values."""
        batch = cls(decoder)
        batch._mask, batch.cache = batch._mask.new_ones(1, length), cache
        batch.lengths, batch.next_positions = [length], [next_position]
        return batch

    @torch.inference_mode()
    def merge(self, other: DecoderOnlyBatch) -> None:
        self._mask = stack_masks(self._mask, other._mask)
        self._append_lengths(other)
        self.cache.append(other.cache)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        self._select_lengths(rows)
        padding = trimmable_padding(self._mask.shape[1] - max(self.lengths, default=0), len(rows))
        self._mask = select_rows(self._mask, rows)[:, padding:]
        self.cache.select(rows, padding)


class EncoderDecoderBatch(LeftAlignedBatch):
    """A batch of an encoder-decoder model: prompts are padded on the right for the encoder, answers on the left."""

    def __init__(self, decoder: EncoderDecoder) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self.self_attention = KVCache()
        self.cross_attention = KVCache()
        self._prompt_mask = self._mask
        self.prompt_lengths: list[int] = []

    @property
    def nbytes(self) -> int:
        return self.self_attention.nbytes + self.cross_attention.nbytes

    def key_values(self, row: int) -> KeyValues | None:  # noqa: ARG002  # an encoder takes the complete prompt
        return None

    def _forward(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, EncoderDecoderBatch]:
        assert not any(cached)
        # 1. Encode the prompts, padded on the right.
        batch, device = EncoderDecoderBatch(self._decoder), self._mask.device
        embeddings, batch._prompt_mask, _ = pad(prompts, left=False)
        batch.prompt_lengths = [len(prompt) for prompt in prompts]
        is_padded = len(set(batch.prompt_lengths)) > 1
        prompt_mask = self._decoder.prompt_mask(batch._prompt_mask, is_padded=is_padded)
        states = self._decoder.encode(embeddings, prompt_mask)
        # 2. Decode the start tokens, padded on the left.
        lengths = [len(prompt.start) for prompt in prompts]
        batch.lengths, batch.next_positions, longest = lengths, lengths, max(lengths)
        ids = to_device([[0] * (longest - len(prompt.start)) + list(prompt.start) for prompt in prompts], device)
        batch._mask = length_mask(lengths, left=True, device=device)
        positions = (batch._mask.cumsum(1) - 1).clamp(min=0)
        logits = self._decoder.forward(
            ids,
            positions=positions[None],
            mask=self._decoder.start_mask(batch._mask, is_padded=len(set(lengths)) > 1),
            states=states,
            prompt_mask=prompt_mask,
            self_attention=batch.self_attention.dynamic_cache,
            cross_attention=batch.cross_attention.dynamic_cache,
        )
        return logits, batch

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self.self_attention.reorder(moves)  # the beams of a prompt share its cross-attention

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        ids, positions = self._advance(tokens, 1)
        return self._decoder.forward(
            ids,
            positions=positions,
            mask=self._mask,
            states=None,
            prompt_mask=self._prompt_mask,
            self_attention=self.self_attention.dynamic_cache,
            cross_attention=self.cross_attention.dynamic_cache,
        )

    @torch.inference_mode()
    def copy(self, row: int) -> EncoderDecoderBatch:
        padding = self._mask.shape[1] - self.lengths[row]
        prompt_padding = self._prompt_mask.shape[1] - self.prompt_lengths[row]
        caches = self.self_attention.copy(row, padding), self.cross_attention.copy(row, 0, prompt_padding)
        return EncoderDecoderBatch.from_row(
            self._decoder, caches, self.lengths[row], self.next_positions[row], self.prompt_lengths[row]
        )

    @classmethod
    def from_row(
        cls, decoder: EncoderDecoder, caches: Sequence[KVCache], length: int, next_position: int, prompt_length: int
    ) -> EncoderDecoderBatch:
        """A batch of one row without padding; `caches` are those of self-attention and of cross-attention."""
        batch = cls(decoder)
        batch._mask, batch._prompt_mask = batch._mask.new_ones(1, length), batch._mask.new_ones(1, prompt_length)
        batch.self_attention, batch.cross_attention = caches
        batch.lengths, batch.next_positions, batch.prompt_lengths = [length], [next_position], [prompt_length]
        return batch

    @torch.inference_mode()
    def merge(self, other: EncoderDecoderBatch) -> None:
        self._mask = stack_masks(self._mask, other._mask)
        self._prompt_mask = stack_masks(self._prompt_mask, other._prompt_mask, left=False)
        self._append_lengths(other)
        self.prompt_lengths = [*self.prompt_lengths, *other.prompt_lengths]
        self.self_attention.append(other.self_attention)
        self.cross_attention.append(other.cross_attention, left=False)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        self._select_lengths(rows)
        self.prompt_lengths = [self.prompt_lengths[row] for row in rows]
        padding = trimmable_padding(self._mask.shape[1] - max(self.lengths, default=0), len(rows))
        prompt_padding = self._prompt_mask.shape[1] - max(self.prompt_lengths, default=0)
        self._mask = select_rows(self._mask, rows)[:, padding:]
        self._prompt_mask = select_rows(self._prompt_mask, rows)[:, : self._prompt_mask.shape[1] - prompt_padding]
        self.self_attention.select(rows, padding)
        self.cross_attention.select(rows, 0, prompt_padding)
