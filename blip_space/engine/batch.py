"""Rows that are decoded together: their keys and values, and one forward pass of the language model a step.

Rows join after their prompt has been prefilled and are removed when they are done; between, every step appends one
token to each. Rows of different lengths are padded on the left and masked, so each computes exactly what it would
compute alone. Depends on masks and the two kinds of language model; must not import requests, and knows nothing of how
a token is chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import BLOCK_TOKENS, Cache
from blip_space.engine.padding import group_by_length, leading_padding, pad, stack_masks
from blip_space.model.tokens import start_token

PADDING = 8
"""On a processor, reading all weights once more takes as long as computing so many positions; on a GPU a pass costs
little for positions and much to begin, so there all prompts are padded and prefilled at once."""


class Batch(Protocol):
    """Rows that are decoded together. Logits are float32 of shape (rows, vocabulary)."""

    start: list[int]
    """What a row's decoder has read before the first new token, apart from the prompt."""

    def __len__(self) -> int:
        """How many rows there are."""

    def prefill(
        self,
        prompts: Sequence[torch.Tensor],
        cached: Sequence[KeyValues | None] = (),
        copies: Sequence[int] = (),
    ) -> torch.Tensor:
        """Compute prompts, each embedded as (length, hidden), and append `copies` rows for each, one by default; the
        logits of the prompts, one row each.

        `cached` are the keys and values of what comes before each prompt, where something does. Neighbours of about one
        length are computed together, so prompts are best sorted by it. Nothing is appended when that fails.
        """

    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to every row; the logits of what comes next."""

    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        """Overwrite rows by others of the same prompt and length: each move is (row, the row that it becomes)."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; the others are removed."""

    def copy(self, row: int) -> Batch:
        """A batch of that row alone, as far as it is."""

    def merge(self, other: Batch) -> None:
        """Append the rows of another batch on the same language model."""

    def key_values(self, row: int) -> KeyValues | None:
        """Those of everything that a row has read, or None where they cannot be continued from."""

    @property
    def nbytes(self) -> int:
        """The size of all keys and values, in bytes."""


def new_batch(language_model: Any) -> Batch:
    """A batch without rows on this language model."""
    if language_model.config.is_encoder_decoder:
        return EncoderDecoderBatch(language_model)
    return DecoderOnlyBatch(language_model)


class DecoderOnlyBatch:
    """OPT and BLOOM: prompt and answer share one window."""

    def __init__(self, language_model: Any) -> None:
        self.start: list[int] = []
        self._model = language_model
        self._cache = Cache()
        self._mask = torch.ones(0, 0, dtype=torch.long, device=language_model.device)

    def __len__(self) -> int:
        return len(self._mask)

    @property
    def nbytes(self) -> int:
        return self._cache.nbytes

    @torch.inference_mode()
    def prefill(
        self,
        prompts: Sequence[torch.Tensor],
        cached: Sequence[KeyValues | None] = (),
        copies: Sequence[int] = (),
    ) -> torch.Tensor:
        cached = cached or [None] * len(prompts)
        parts = [(group, self._compute(prompts[group], cached[group])) for group in _groups(prompts)]
        return _append(self, parts, copies)

    def _compute(
        self, prompts: Sequence[torch.Tensor], cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, DecoderOnlyBatch]:
        other = DecoderOnlyBatch(self._model)
        embeds, other._mask = pad(prompts, left=True)
        if any(cached):
            other._mask = torch.cat([other._cache.load(cached, like=embeds), other._mask], dim=1)
        output = self._model(
            inputs_embeds=embeds,
            attention_mask=other._mask,
            past_key_values=other._cache.own,
            use_cache=True,
            logits_to_keep=1,
        )
        return _last(output.logits), other

    @torch.inference_mode()
    def key_values(self, row: int) -> KeyValues | None:
        return self._cache.key_values(row, self._mask[row].bool())

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._cache.reorder(moves)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        # OPT takes its positions, and BLOOM its ALiBi, from a mask over everything read so far
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self), 1)], dim=1)
        output = self._model(
            input_ids=_column(tokens, self._mask.device),
            attention_mask=self._mask,
            past_key_values=self._cache.own,
            use_cache=True,
            logits_to_keep=1,
        )
        return _last(output.logits)

    @torch.inference_mode()
    def copy(self, row: int) -> DecoderOnlyBatch:
        alone, mask = DecoderOnlyBatch(self._model), self._mask[row : row + 1]
        padding = leading_padding(mask)
        alone._mask, alone._cache = mask[:, padding:], self._cache.copy(row, padding)
        return alone

    @torch.inference_mode()
    def merge(self, other: Batch) -> None:
        assert isinstance(other, DecoderOnlyBatch)
        self._mask = stack_masks(self._mask, other._mask)
        self._cache.append(other._cache)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        kept = self._mask[list(rows)]
        padding = _trimmable(kept)
        self._mask = kept[:, padding:]
        self._cache.select(rows, padding)


class EncoderDecoderBatch:
    """T5 and mT5: the encoder reads the prompt, the decoder generates."""

    def __init__(self, language_model: Any) -> None:
        self.start = [start_token(language_model.generation_config)]
        self._model = language_model
        self._self_attention = Cache()
        self._cross_attention = Cache()
        self._mask = torch.ones(0, 0, dtype=torch.long, device=language_model.device)
        self._prompt_mask = self._mask

    def __len__(self) -> int:
        return len(self._mask)

    @property
    def nbytes(self) -> int:
        return self._self_attention.nbytes + self._cross_attention.nbytes

    def key_values(self, row: int) -> KeyValues | None:  # noqa: ARG002  # the encoder reads a prompt as a whole
        return None

    @torch.inference_mode()
    def prefill(
        self,
        prompts: Sequence[torch.Tensor],
        cached: Sequence[KeyValues | None] = (),
        copies: Sequence[int] = (),
    ) -> torch.Tensor:
        assert not any(cached)
        return _append(self, [(group, self._compute(prompts[group])) for group in _groups(prompts)], copies)

    def _compute(self, prompts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, EncoderDecoderBatch]:
        other = EncoderDecoderBatch(self._model)
        embeds, other._prompt_mask = pad(prompts, left=False)
        encoded = self._model.get_encoder()(inputs_embeds=embeds, attention_mask=other._prompt_mask, return_dict=True)
        other._mask = other._prompt_mask.new_ones(len(prompts), 1)
        return other._forward(self.start * len(prompts), encoded), other

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._self_attention.reorder(moves)  # the cross-attention's are those of their common prompt

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self), 1)], dim=1)
        # The encoder's output is in the cross-attention's keys and values; only its shape is asked for again.
        shape = (*self._prompt_mask.shape, 1)
        encoded = BaseModelOutput(torch.empty(shape, device=self._mask.device, dtype=self._model.dtype))
        return self._forward(tokens, encoded)

    @torch.inference_mode()
    def copy(self, row: int) -> EncoderDecoderBatch:
        alone = EncoderDecoderBatch(self._model)
        mask, prompt = self._mask[row : row + 1], self._prompt_mask[row : row + 1]
        padding, prompt_padding = leading_padding(mask), leading_padding(prompt.flip(1))
        alone._mask, alone._prompt_mask = mask[:, padding:], prompt[:, : prompt.shape[1] - prompt_padding]
        alone._self_attention = self._self_attention.copy(row, padding)
        alone._cross_attention = self._cross_attention.copy(row, 0, prompt_padding)
        return alone

    @torch.inference_mode()
    def merge(self, other: Batch) -> None:
        assert isinstance(other, EncoderDecoderBatch)
        self._mask = stack_masks(self._mask, other._mask)
        self._prompt_mask = stack_masks(self._prompt_mask, other._prompt_mask, left=False)
        self._self_attention.append(other._self_attention)
        self._cross_attention.append(other._cross_attention, left=False)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        kept, prompts = self._mask[list(rows)], self._prompt_mask[list(rows)]
        padding, prompt_padding = _trimmable(kept), leading_padding(prompts.flip(1))
        self._mask = kept[:, padding:]
        self._prompt_mask = prompts[:, : prompts.shape[1] - prompt_padding]
        self._self_attention.select(rows, padding)
        self._cross_attention.select(rows, 0, prompt_padding)

    def _forward(self, tokens: Sequence[int], encoded: Any) -> torch.Tensor:
        output = self._model(
            encoder_outputs=encoded,
            attention_mask=self._prompt_mask,
            decoder_input_ids=_column(tokens, self._mask.device),
            decoder_attention_mask=self._mask,
            past_key_values=EncoderDecoderCache(self._self_attention.own, self._cross_attention.own),
            use_cache=True,
        )
        return _last(output.logits)


def _groups(prompts: Sequence[torch.Tensor]) -> list[slice]:
    most = PADDING if prompts[0].device.type == "cpu" else sys.maxsize
    return group_by_length([len(prompt) for prompt in prompts], most_padding=most)


def _append(
    batch: Batch, parts: Sequence[tuple[slice, tuple[torch.Tensor, Batch]]], copies: Sequence[int]
) -> torch.Tensor:
    """Append what was computed in several passes, once all of it was, each prompt's row as often as it is wanted."""
    for group, (_, part) in parts:
        wanted = copies[group]
        if any(count != 1 for count in wanted):
            part.select([row for row, count in enumerate(wanted) for _ in range(count)])
    for _, (_, part) in parts:
        batch.merge(part)
    return torch.cat([logits for _, (logits, _) in parts])


def _trimmable(mask: torch.Tensor) -> int:
    """How many positions of common padding are worth a copy of the rest: whole blocks, and all where no row is left."""
    padding = leading_padding(mask)
    return padding // BLOCK_TOKENS * BLOCK_TOKENS if len(mask) else padding


def _column(tokens: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(list(tokens), device=device)[:, None]


def _last(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, :].to(torch.float32)
