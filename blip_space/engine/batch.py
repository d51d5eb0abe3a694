"""A batch whose rows end at the same position: shorter ones are padded on the left and masked, so each computes exactly
what it would compute alone.

Rows join after their prompt has been prefilled and are removed when they are done; between, every step appends one
token to each. Depends on masks and the two kinds of decoder; must not import requests, and knows nothing of how a token
is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from blip_space.engine.batch_interface import Batch
from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import Cache
from blip_space.engine.padding import leading_padding, mask_of, pad, stack_masks, trimmable
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder


class LeftAligned(Batch):
    """What both kinds share: a mask, and the position that comes next in each row."""

    def __init__(self, device: torch.device) -> None:
        self._mask = torch.ones(0, 0, dtype=torch.long, device=device)
        self._next = torch.ones(0, dtype=torch.long, device=device)

    def __len__(self) -> int:
        return len(self._mask)

    def _advance(self, tokens: Sequence[int], axes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens (rows, 1) and their positions (axes, rows, 1), which the mask then has."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self), 1)], dim=1)
        positions = self._next.expand(axes, -1)[:, :, None]
        self._next = self._next + 1
        return torch.tensor(tokens, device=self._mask.device)[:, None], positions


class DecoderOnlyBatch(LeftAligned):
    """Prompt and answer share one window."""

    def __init__(self, decoder: DecoderOnly) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self._cache = Cache()

    @property
    def nbytes(self) -> int:
        return self._cache.nbytes

    def _compute(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, DecoderOnlyBatch]:
        other = DecoderOnlyBatch(self._decoder)
        embeddings, mask, positions = pad(prompts, left=True)
        other._mask = torch.cat([other._cache.load(cached, like=embeddings), mask], dim=1) if any(cached) else mask
        other._next = torch.tensor([prompt.next_position for prompt in prompts], device=mask.device)
        logits = self._decoder.forward(
            embeddings=embeddings, positions=positions, mask=other._mask, key_values=other._cache.own
        )
        return logits, other

    @torch.inference_mode()
    def key_values(self, row: int) -> KeyValues | None:
        return self._cache.key_values(row, self._mask[row].bool())

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._cache.reorder(moves)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        ids, positions = self._advance(tokens, self._decoder.axes)
        return self._decoder.forward(ids=ids, positions=positions, mask=self._mask, key_values=self._cache.own)

    @torch.inference_mode()
    def copy(self, row: int) -> DecoderOnlyBatch:
        alone, mask = DecoderOnlyBatch(self._decoder), self._mask[row : row + 1]
        padding = leading_padding(mask)
        alone._mask, alone._next = mask[:, padding:], self._next[row : row + 1]
        alone._cache = self._cache.copy(row, padding)
        return alone

    @torch.inference_mode()
    def merge(self, other: DecoderOnlyBatch) -> None:
        self._mask = stack_masks(self._mask, other._mask)
        self._next = torch.cat([self._next, other._next])
        self._cache.append(other._cache)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        kept = self._mask[list(rows)]
        padding = trimmable(kept)
        self._mask, self._next = kept[:, padding:], self._next[list(rows)]
        self._cache.select(rows, padding)


class EncoderDecoderBatch(LeftAligned):
    """The encoder reads the prompt, the decoder generates; prompts are padded on the right."""

    def __init__(self, decoder: EncoderDecoder) -> None:
        super().__init__(decoder.device)
        self._decoder = decoder
        self._self_attention = Cache()
        self._cross_attention = Cache()
        self._prompt_mask = self._mask

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
        states = self._decoder.encode(embeddings, other._prompt_mask)
        lengths = [len(prompt.start) for prompt in prompts]
        longest = max(lengths)
        padded = [[0] * (longest - len(prompt.start)) + list(prompt.start) for prompt in prompts]
        other._mask = mask_of(lengths, left=True, device=device)
        other._next = torch.tensor(lengths, device=device)
        positions = (torch.arange(longest, device=device) - longest + other._next[:, None]).clamp(min=0)
        logits = other._forward(torch.tensor(padded, device=device), positions, states)
        return logits, other

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._self_attention.reorder(moves)  # the cross-attention's are those of their common prompt

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        ids, positions = self._advance(tokens, 1)
        return self._forward(ids, positions[0], None)

    @torch.inference_mode()
    def copy(self, row: int) -> EncoderDecoderBatch:
        alone = EncoderDecoderBatch(self._decoder)
        mask, prompt = self._mask[row : row + 1], self._prompt_mask[row : row + 1]
        padding, prompt_padding = leading_padding(mask), leading_padding(prompt.flip(1))
        alone._mask, alone._prompt_mask = mask[:, padding:], prompt[:, : prompt.shape[1] - prompt_padding]
        alone._next = self._next[row : row + 1]
        alone._self_attention = self._self_attention.copy(row, padding)
        alone._cross_attention = self._cross_attention.copy(row, 0, prompt_padding)
        return alone

    @torch.inference_mode()
    def merge(self, other: EncoderDecoderBatch) -> None:
        self._mask = stack_masks(self._mask, other._mask)
        self._next = torch.cat([self._next, other._next])
        self._prompt_mask = stack_masks(self._prompt_mask, other._prompt_mask, left=False)
        self._self_attention.append(other._self_attention)
        self._cross_attention.append(other._cross_attention, left=False)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        kept, prompts = self._mask[list(rows)], self._prompt_mask[list(rows)]
        padding, prompt_padding = trimmable(kept), leading_padding(prompts.flip(1))
        self._mask, self._next = kept[:, padding:], self._next[list(rows)]
        self._prompt_mask = prompts[:, : prompts.shape[1] - prompt_padding]
        self._self_attention.select(rows, padding)
        self._cross_attention.select(rows, 0, prompt_padding)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, states: torch.Tensor | None) -> torch.Tensor:
        return self._decoder.forward(
            ids,
            positions=positions[None],
            mask=self._mask,
            states=states,
            prompt_mask=self._prompt_mask,
            self_attention=self._self_attention.own,
            cross_attention=self._cross_attention.own,
        )


def new_batch(decoder: DecoderOnly | EncoderDecoder) -> Batch:
    """A batch without rows on this decoder."""
    return DecoderOnlyBatch(decoder) if isinstance(decoder, DecoderOnly) else EncoderDecoderBatch(decoder)
