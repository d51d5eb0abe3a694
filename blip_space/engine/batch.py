"""Keys and values of rows that are decoded together, and one forward pass of the language model a step.

Rows join after their prompt has been prefilled and are removed when they are done; between, every step appends one
token to each. Rows of different lengths are padded on the left and masked, so each computes exactly what it would
compute alone. Depends on masks and the two kinds of language model; must not import requests, and knows nothing of how
a token is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from blip_space.engine.batch_interface import Batch, leading_padding, stack_masks, trimmable
from blip_space.engine.caches import KeyValues
from blip_space.engine.kv_cache import Cache
from blip_space.model.tokens import start_token


def new_batch(language_model: Any) -> Batch:
    """A batch without rows on this language model."""
    if language_model.config.is_encoder_decoder:
        return EncoderDecoderBatch(language_model, [start_token(language_model.generation_config)])
    return DecoderOnlyBatch(language_model, [])


class DecoderOnlyBatch(Batch):
    """OPT and BLOOM: prompt and answer share one window."""

    pads_left = True

    def __init__(self, language_model: Any, start: list[int]) -> None:
        super().__init__(language_model, start)
        self._cache = Cache()

    @property
    def nbytes(self) -> int:
        return self._cache.nbytes

    def _compute(
        self, embeds: torch.Tensor, mask: torch.Tensor, cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, DecoderOnlyBatch]:
        other = DecoderOnlyBatch(self._model, self.start)
        other._mask = torch.cat([other._cache.load(cached, like=embeds), mask], dim=1) if any(cached) else mask
        output = self._model(
            inputs_embeds=embeds,
            attention_mask=other._mask,
            past_key_values=other._cache.own,
            use_cache=True,
            logits_to_keep=1,
        )
        return _last(output), other

    @torch.inference_mode()
    def key_values(self, row: int) -> KeyValues | None:
        return self._cache.key_values(row, self._mask[row].bool())

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._cache.reorder(moves)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        # OPT takes its positions, and BLOOM its ALiBi, from a mask over everything read so far
        self._mask = torch.cat([self._mask, self._mask.new_ones(self._mask.shape[0], 1)], dim=1)
        output = self._model(
            input_ids=torch.tensor(tokens, device=self._mask.device)[:, None],
            attention_mask=self._mask,
            past_key_values=self._cache.own,
            use_cache=True,
            logits_to_keep=1,
        )
        return _last(output)

    @torch.inference_mode()
    def copy(self, row: int) -> DecoderOnlyBatch:
        alone, mask = DecoderOnlyBatch(self._model, self.start), self._mask[row : row + 1]
        padding = leading_padding(mask)
        alone._mask, alone._cache = mask[:, padding:], self._cache.copy(row, padding)
        return alone

    @torch.inference_mode()
    def merge(self, other: DecoderOnlyBatch) -> None:
        self._mask = stack_masks(self._mask, other._mask)
        self._cache.append(other._cache)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        kept = self._mask[list(rows)]
        padding = trimmable(kept)
        self._mask = kept[:, padding:]
        self._cache.select(rows, padding)


class EncoderDecoderBatch(Batch):
    """T5 and mT5: the encoder reads the prompt, the decoder generates."""

    pads_left = False

    def __init__(self, language_model: Any, start: list[int]) -> None:
        super().__init__(language_model, start)
        self._self_attention = Cache()
        self._cross_attention = Cache()
        self._prompt_mask = self._mask

    @property
    def nbytes(self) -> int:
        return self._self_attention.nbytes + self._cross_attention.nbytes

    def key_values(self, row: int) -> KeyValues | None:  # noqa: ARG002  # the encoder reads a prompt as a whole
        return None

    def _compute(
        self, embeds: torch.Tensor, mask: torch.Tensor, cached: Sequence[KeyValues | None]
    ) -> tuple[torch.Tensor, EncoderDecoderBatch]:
        assert not any(cached)
        other = EncoderDecoderBatch(self._model, self.start)
        encoded = self._model.get_encoder()(inputs_embeds=embeds, attention_mask=mask, return_dict=True)
        other._prompt_mask, other._mask = mask, mask.new_ones(len(mask), 1)
        return other._forward(self.start * len(mask), encoded), other

    @torch.inference_mode()
    def reorder(self, moves: Sequence[tuple[int, int]]) -> None:
        self._self_attention.reorder(moves)  # the cross-attention's are those of their common prompt

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(self._mask.shape[0], 1)], dim=1)
        # The encoder's output is in the cross-attention's keys and values; only its shape is asked for again.
        shape = (*self._prompt_mask.shape, 1)
        encoded = BaseModelOutput(torch.empty(shape, device=self._mask.device, dtype=self._model.dtype))
        return self._forward(tokens, encoded)

    @torch.inference_mode()
    def copy(self, row: int) -> EncoderDecoderBatch:
        alone = EncoderDecoderBatch(self._model, self.start)
        mask, prompt = self._mask[row : row + 1], self._prompt_mask[row : row + 1]
        padding, prompt_padding = leading_padding(mask), leading_padding(prompt.flip(1))
        alone._mask, alone._prompt_mask = mask[:, padding:], prompt[:, : prompt.shape[1] - prompt_padding]
        alone._self_attention = self._self_attention.copy(row, padding)
        alone._cross_attention = self._cross_attention.copy(row, 0, prompt_padding)
        return alone

    @torch.inference_mode()
    def merge(self, other: EncoderDecoderBatch) -> None:
        self._mask = stack_masks(self._mask, other._mask)
        self._prompt_mask = stack_masks(self._prompt_mask, other._prompt_mask, left=False)
        self._self_attention.append(other._self_attention)
        self._cross_attention.append(other._cross_attention, left=False)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        kept, prompts = self._mask[list(rows)], self._prompt_mask[list(rows)]
        padding, prompt_padding = trimmable(kept), leading_padding(prompts.flip(1))
        self._mask = kept[:, padding:]
        self._prompt_mask = prompts[:, : prompts.shape[1] - prompt_padding]
        self._self_attention.select(rows, padding)
        self._cross_attention.select(rows, 0, prompt_padding)

    def _forward(self, tokens: Sequence[int], encoded: Any) -> torch.Tensor:
        output = self._model(
            encoder_outputs=encoded,
            attention_mask=self._prompt_mask,
            decoder_input_ids=torch.tensor(tokens, device=self._mask.device)[:, None],
            decoder_attention_mask=self._mask,
            past_key_values=EncoderDecoderCache(self._self_attention.own, self._cross_attention.own),
            use_cache=True,
        )
        return _last(output)


def _last(output: Any) -> torch.Tensor:
    """The logits of the last position, as float32."""
    logits: torch.Tensor = output.logits
    return logits[:, -1].float()
