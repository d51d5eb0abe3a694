"""A batch whose rows end at the same position: shorter ones are padded on the left and masked, so each computes exactly
what it would compute alone.

Rows join after their prompt has been prefilled and are removed when they are done; between, every step appends one
token to each. Lengths and positions are numbers of the host, so that nothing reads a tensor's. Depends on masks and the
two kinds of decoder; must not import requests, and knows nothing of how a token is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from blip_space.engine.batch_interface import Batch
from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import KVCache, round_up_to_block
from blip_space.engine.padding import length_mask, pad, stack_masks, trimmable_padding
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder
from blip_space.models.transfer import select_rows, to_device


class LeftAlignedBatch(Batch):
    """What both kinds share: a mask, how many positions of each row are no padding, and the position that comes next in
    each."""

    def __init__(self, device: torch.device) -> None:
        self._mask = torch.ones(0, 0, dtype=torch.long, device=device)
        self.lengths: list[int] = []
        self.next_positions: list[int] = []

    @staticmethod
    def reserved_positions(rows: int, longest: int) -> int:
        return rows * round_up_to_block(longest)

    def __len__(self) -> int:
        return len(self.lengths)

    def _advance(self, tokens: Sequence[int], axes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens (rows, 1) and their positions (axes, rows, 1), which the mask then has."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self), 1)], dim=1)
        ids, positions = to_device([tokens, self.next_positions], self._mask.device)[:, :, None]
        self.lengths = [length + 1 for length in self.lengths]
        self.next_positions = [position + 1 for position in self.next_positions]
        return ids, positions.expand(axes, -1, -1)

    def _append_lengths(self, other: LeftAlignedBatch) -> None:
        self.lengths = [*self.lengths, *other.lengths]
        self.next_positions = [*self.next_positions, *other.next_positions]

    def _select_lengths(self, rows: Sequence[int]) -> None:
        self.lengths = [self.lengths[row] for row in rows]
        self.next_positions = [self.next_positions[row] for row in rows]


class DecoderOnlyBatch(LeftAlignedBatch):
    """Prompt and answer share one window."""

    def __init__(self, decoder: DecoderOnly) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self._cache = KVCache()

    @property
    def nbytes(self) -> int:
        return self._cache.nbytes

    def _compute(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, DecoderOnlyBatch]:
        other = DecoderOnlyBatch(self._decoder)
        embeddings, mask, positions = pad(prompts, left=True)
        before, new = [0] * len(prompts), [len(prompt) for prompt in prompts]
        if any(cached):
            before = other._cache.load_prefixes(cached)
            mask = torch.cat([length_mask(before, left=True, device=mask.device), mask], dim=1)
        other.lengths = [sum(both) for both in zip(before, new, strict=True)]
        other.next_positions = [prompt.next_position for prompt in prompts]
        is_padded = len(set(before)) > 1 or len(set(new)) > 1
        logits = self._decoder.forward(
            embeddings=embeddings,
            positions=positions,
            mask=self._decoder.prompt_mask(mask, embeddings.shape[1], is_padded=is_padded),
            key_values=other._cache.dynamic_cache,
        )
        other._mask = mask
        if any(cached) and len(set(new)) > 1:  # a shorter prompt has padding behind what was read before
            other._cache.close_gaps([max(new) - length for length in new], new)
            other._mask = length_mask(other.lengths, left=True, device=mask.device, width=mask.shape[1])
        return logits, other

    @torch.inference_mode()
    def key_values(self, row: int) -> KeyValues | None:
        return self._cache.key_values(row, self.lengths[row])

    @property
    def cache(self) -> KVCache:
        """The keys and values of every row."""
        return self._cache

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._cache.reorder(moves)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        ids, positions = self._advance(tokens, self._decoder.axes)
        return self._decoder.forward(
            ids=ids, positions=positions, mask=self._mask, key_values=self._cache.dynamic_cache
        )

    @torch.inference_mode()
    def copy(self, row: int) -> DecoderOnlyBatch:
        padding = self._mask.shape[1] - self.lengths[row]
        return DecoderOnlyBatch.from_row(
            self._decoder, self._cache.copy(row, padding), self.lengths[row], self.next_positions[row]
        )

    @classmethod
    def from_row(cls, decoder: DecoderOnly, cache: KVCache, length: int, next_position: int) -> DecoderOnlyBatch:
        """One row whose keys and values are there, without padding."""
        alone = cls(decoder)
        alone._mask, alone._cache = alone._mask.new_ones(1, length), cache
        alone.lengths, alone.next_positions = [length], [next_position]
        return alone

    @torch.inference_mode()
    def merge(self, other: DecoderOnlyBatch) -> None:
        self._mask = stack_masks(self._mask, other._mask)
        self._append_lengths(other)
        self._cache.append(other._cache)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        self._select_lengths(rows)
        padding = trimmable_padding(self._mask.shape[1] - max(self.lengths, default=0), len(rows))
        self._mask = select_rows(self._mask, rows)[:, padding:]
        self._cache.select(rows, padding)


class EncoderDecoderBatch(LeftAlignedBatch):
    """The encoder reads the prompt, the decoder generates; prompts are padded on the right."""

    def __init__(self, decoder: EncoderDecoder) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self._self_attention = KVCache()
        self._cross_attention = KVCache()
        self._prompt_mask = self._mask
        self.prompt_lengths: list[int] = []

    @property
    def nbytes(self) -> int:
        return self._self_attention.nbytes + self._cross_attention.nbytes

    def key_values(self, row: int) -> KeyValues | None:  # noqa: ARG002  # the encoder reads a prompt as a whole
        return None

    def _compute(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, EncoderDecoderBatch]:
        assert not any(cached)
        other, device = EncoderDecoderBatch(self._decoder), self._mask.device
        embeddings, other._prompt_mask, _ = pad(prompts, left=False)
        other.prompt_lengths = [len(prompt) for prompt in prompts]
        is_padded = len(set(other.prompt_lengths)) > 1
        prompt_mask = self._decoder.prompt_mask(other._prompt_mask, is_padded=is_padded)
        states = self._decoder.encode(embeddings, prompt_mask)
        lengths = [len(prompt.start) for prompt in prompts]
        other.lengths, other.next_positions, longest = lengths, lengths, max(lengths)
        ids = to_device([[0] * (longest - len(prompt.start)) + list(prompt.start) for prompt in prompts], device)
        other._mask = length_mask(lengths, left=True, device=device)
        positions = (other._mask.cumsum(1) - 1).clamp(min=0)
        logits = self._decoder.forward(
            ids,
            positions=positions[None],
            mask=self._decoder.start_mask(other._mask, is_padded=len(set(lengths)) > 1),
            states=states,
            prompt_mask=prompt_mask,
            self_attention=other._self_attention.dynamic_cache,
            cross_attention=other._cross_attention.dynamic_cache,
        )
        return logits, other

    @property
    def caches(self) -> tuple[KVCache, KVCache]:
        """The keys and values of every row: the decoder's own, and those of the prompt, which begin at its first
        position."""
        return self._self_attention, self._cross_attention

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._self_attention.reorder(moves)  # the cross-attention's are those of their common prompt

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        ids, positions = self._advance(tokens, 1)
        return self._decoder.forward(
            ids,
            positions=positions,
            mask=self._mask,
            states=None,
            prompt_mask=self._prompt_mask,
            self_attention=self._self_attention.dynamic_cache,
            cross_attention=self._cross_attention.dynamic_cache,
        )

    @torch.inference_mode()
    def copy(self, row: int) -> EncoderDecoderBatch:
        padding = self._mask.shape[1] - self.lengths[row]
        prompt_padding = self._prompt_mask.shape[1] - self.prompt_lengths[row]
        caches = self._self_attention.copy(row, padding), self._cross_attention.copy(row, 0, prompt_padding)
        return EncoderDecoderBatch.from_row(
            self._decoder, caches, self.lengths[row], self.next_positions[row], self.prompt_lengths[row]
        )

    @classmethod
    def from_row(
        cls,
        decoder: EncoderDecoder,
        caches: tuple[KVCache, KVCache],
        length: int,
        next_position: int,
        prompt_length: int,
    ) -> EncoderDecoderBatch:
        """One row whose keys and values are there, without padding."""
        alone = cls(decoder)
        alone._mask, alone._prompt_mask = alone._mask.new_ones(1, length), alone._mask.new_ones(1, prompt_length)
        alone._self_attention, alone._cross_attention = caches
        alone.lengths, alone.next_positions, alone.prompt_lengths = [length], [next_position], [prompt_length]
        return alone

    @torch.inference_mode()
    def merge(self, other: EncoderDecoderBatch) -> None:
        self._mask = stack_masks(self._mask, other._mask)
        self._prompt_mask = stack_masks(self._prompt_mask, other._prompt_mask, left=False)
        self._append_lengths(other)
        self.prompt_lengths = [*self.prompt_lengths, *other.prompt_lengths]
        self._self_attention.append(other._self_attention)
        self._cross_attention.append(other._cross_attention, left=False)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        self._select_lengths(rows)
        self.prompt_lengths = [self.prompt_lengths[row] for row in rows]
        padding = trimmable_padding(self._mask.shape[1] - max(self.lengths, default=0), len(rows))
        prompt_padding = self._prompt_mask.shape[1] - max(self.prompt_lengths, default=0)
        self._mask = select_rows(self._mask, rows)[:, padding:]
        self._prompt_mask = select_rows(self._prompt_mask, rows)[:, : self._prompt_mask.shape[1] - prompt_padding]
        self._self_attention.select(rows, padding)
        self._cross_attention.select(rows, 0, prompt_padding)
