"""Many answers written at once: the rows' keys and values, and one pass through the language model a step.

Rows join after their prompt has been read and leave when they are done; between, every step appends one token to each.
Rows of different lengths are padded on the left and masked, so each sees exactly what it would see alone. Knows masks
and the two kinds of language model; knows no queue, no request and not how a token is chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from blip_space.model.cache import ROOM, Cache
from blip_space.model.padding import padded, passes, stacked, unused
from blip_space.model.tokens import start_token
from blip_space.model.turns import Past

PADDING = 8
"""On a processor, reading all weights once more takes as long as reading so many positions; a GPU's passes are cheap in
positions and dear to begin, so there all prompts are padded and read at once."""


class Batch(Protocol):
    """Rows that are written together. Logits are float32 of shape (rows, vocabulary)."""

    start: list[int]
    """What a row's decoder has read before the first new token, apart from the prompt."""

    def __len__(self) -> int:
        """How many rows there are."""

    def join(self, prompts: Sequence[torch.Tensor], pasts: Sequence[Past | None] = ()) -> torch.Tensor:
        """Read prompts, each embedded as (length, hidden), and append a row for each; the logits of the new rows.

        `pasts` are the keys and values of what comes before each prompt, where something does. Neighbours of about one
        length are read together, so prompts are best sorted by it. Nothing joins when reading fails.
        """

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to every row; the logits of what comes next."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; the others leave."""

    def copy(self, row: int) -> Batch:
        """A batch of that row alone, as far as it is."""

    def merge(self, other: Batch) -> None:
        """Append the rows of another batch on the same language model."""

    def past(self, row: int) -> Past | None:
        """The keys and values of everything that a row has read, or None where they cannot be gone on from."""

    @property
    def nbytes(self) -> int:
        """The size of all keys and values, in bytes."""


def batch(language_model: Any) -> Batch:
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
    def join(self, prompts: Sequence[torch.Tensor], pasts: Sequence[Past | None] = ()) -> torch.Tensor:
        pasts = pasts or [None] * len(prompts)
        return _read_into(self, [self._begin(prompts[part], pasts[part]) for part in _passes(prompts)])

    def _begin(
        self, prompts: Sequence[torch.Tensor], pasts: Sequence[Past | None]
    ) -> tuple[torch.Tensor, DecoderOnlyBatch]:
        other = DecoderOnlyBatch(self._model)
        embeds, other._mask = padded(prompts, left=True)
        if any(pasts):
            other._mask = torch.cat([other._cache.begin(pasts, like=embeds), other._mask], dim=1)
        output = self._model(
            inputs_embeds=embeds,
            attention_mask=other._mask,
            past_key_values=other._cache.own,
            use_cache=True,
            logits_to_keep=1,
        )
        return _last(output.logits), other

    @torch.inference_mode()
    def past(self, row: int) -> Past | None:
        return self._cache.past(row, self._mask[row].bool())

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> torch.Tensor:
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
        spare = unused(mask)
        alone._mask, alone._cache = mask[:, spare:], self._cache.copy(row, spare)
        return alone

    @torch.inference_mode()
    def merge(self, other: Batch) -> None:
        assert isinstance(other, DecoderOnlyBatch)
        self._mask = stacked(self._mask, other._mask)
        self._cache.join(other._cache)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        kept = self._mask[list(rows)]
        spare = _spare_rooms(kept)
        self._mask = kept[:, spare:]
        self._cache.keep(rows, spare)


class EncoderDecoderBatch:
    """T5 and mT5: the encoder reads the prompt, the decoder writes."""

    def __init__(self, language_model: Any) -> None:
        self.start = [start_token(language_model.generation_config)]
        self._model = language_model
        self._written = Cache()
        self._read = Cache()
        self._mask = torch.ones(0, 0, dtype=torch.long, device=language_model.device)
        self._prompt_mask = self._mask

    def __len__(self) -> int:
        return len(self._mask)

    @property
    def nbytes(self) -> int:
        return self._written.nbytes + self._read.nbytes

    def past(self, row: int) -> Past | None:  # noqa: ARG002  # the encoder reads a prompt as a whole
        return None

    @torch.inference_mode()
    def join(self, prompts: Sequence[torch.Tensor], pasts: Sequence[Past | None] = ()) -> torch.Tensor:
        assert not any(pasts)
        return _read_into(self, [self._begin(prompts[part]) for part in _passes(prompts)])

    def _begin(self, prompts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, EncoderDecoderBatch]:
        other = EncoderDecoderBatch(self._model)
        embeds, other._prompt_mask = padded(prompts, left=False)
        encoded = self._model.get_encoder()(inputs_embeds=embeds, attention_mask=other._prompt_mask, return_dict=True)
        other._mask = other._prompt_mask.new_ones(len(prompts), 1)
        return other._forward(self.start * len(prompts), encoded), other

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self), 1)], dim=1)
        # What the encoder said is in the cross-attention's keys and values; only its shape is asked for again.
        shape = (*self._prompt_mask.shape, 1)
        encoded = BaseModelOutput(torch.empty(shape, device=self._mask.device, dtype=self._model.dtype))
        return self._forward(tokens, encoded)

    @torch.inference_mode()
    def copy(self, row: int) -> EncoderDecoderBatch:
        alone = EncoderDecoderBatch(self._model)
        mask, prompt = self._mask[row : row + 1], self._prompt_mask[row : row + 1]
        spare, spare_prompt = unused(mask), unused(prompt.flip(1))
        alone._mask, alone._prompt_mask = mask[:, spare:], prompt[:, : prompt.shape[1] - spare_prompt]
        alone._written, alone._read = self._written.copy(row, spare), self._read.copy(row, 0, spare_prompt)
        return alone

    @torch.inference_mode()
    def merge(self, other: Batch) -> None:
        assert isinstance(other, EncoderDecoderBatch)
        self._mask = stacked(self._mask, other._mask)
        self._prompt_mask = stacked(self._prompt_mask, other._prompt_mask, left=False)
        self._written.join(other._written)
        self._read.join(other._read, left=False)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        kept, prompts = self._mask[list(rows)], self._prompt_mask[list(rows)]
        spare, spare_prompt = _spare_rooms(kept), unused(prompts.flip(1))
        self._mask = kept[:, spare:]
        self._prompt_mask = prompts[:, : prompts.shape[1] - spare_prompt]
        self._written.keep(rows, spare)
        self._read.keep(rows, 0, spare_prompt)

    def _forward(self, tokens: Sequence[int], encoded: Any) -> torch.Tensor:
        output = self._model(
            encoder_outputs=encoded,
            attention_mask=self._prompt_mask,
            decoder_input_ids=_column(tokens, self._mask.device),
            decoder_attention_mask=self._mask,
            past_key_values=EncoderDecoderCache(self._written.own, self._read.own),
            use_cache=True,
        )
        return _last(output.logits)


def _passes(prompts: Sequence[torch.Tensor]) -> list[slice]:
    most = PADDING if prompts[0].device.type == "cpu" else sys.maxsize
    return passes([len(prompt) for prompt in prompts], most_padding=most)


def _read_into(batch: Batch, parts: Sequence[tuple[torch.Tensor, Batch]]) -> torch.Tensor:
    """Append what was read in several passes, once all of it was."""
    for _, part in parts:
        batch.merge(part)
    return torch.cat([logits for logits, _ in parts])


def _spare_rooms(mask: torch.Tensor) -> int:
    """How many of them are worth a copy of the rest: whole rooms, and all where no row is left."""
    spare = unused(mask)
    return spare // ROOM * ROOM if len(mask) else spare


def _column(tokens: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(list(tokens), device=device)[:, None]


def _last(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, :].to(torch.float32)
