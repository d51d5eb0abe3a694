"""One answer's way through the language model: the prompt once, then a token a step.

Knows tensors and caches of the two kinds of language model; knows nothing of text, of pictures or of how the next
token is chosen.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Steps(Protocol):
    """One answer being written. Logits are float32 of shape (1, vocabulary)."""

    start: list[int]
    """What the decoder has read before the first new token, apart from the prompt."""

    def prefill(self, embeds: torch.Tensor) -> torch.Tensor:
        """Read the prompt's embeddings (1, length, hidden); the logits of the first new token."""

    def step(self, token: int) -> torch.Tensor:
        """Append a token; the logits of the next."""


def begin(language_model: Any) -> Steps:
    """A fresh answer on this language model."""
    return EncoderDecoder(language_model) if language_model.config.is_encoder_decoder else DecoderOnly(language_model)


class DecoderOnly:
    """OPT and BLOOM: prompt and answer share one window."""

    def __init__(self, language_model: Any) -> None:
        self.start: list[int] = []
        self._model = language_model
        self._cache: Any = None
        self._mask = torch.ones(1, 0, dtype=torch.long, device=language_model.device)

    @torch.inference_mode()
    def prefill(self, embeds: torch.Tensor) -> torch.Tensor:
        return self._forward(embeds.shape[1], inputs_embeds=embeds)

    @torch.inference_mode()
    def step(self, token: int) -> torch.Tensor:
        return self._forward(1, input_ids=torch.tensor([[token]], device=self._mask.device))

    def _forward(self, length: int, **inputs: torch.Tensor) -> torch.Tensor:
        # OPT takes its positions, and BLOOM its ALiBi, from a mask over everything read so far
        self._mask = torch.cat([self._mask, self._mask.new_ones(1, length)], dim=1)
        output = self._model(
            **inputs, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        self._cache = output.past_key_values
        return _last(output.logits)


class EncoderDecoder:
    """T5 and mT5: the encoder reads the prompt, the decoder writes."""

    def __init__(self, language_model: Any) -> None:
        self.start = [start_token(language_model.generation_config)]
        self._model = language_model
        self._encoded: Any = None
        self._mask: Any = None
        self._cache: Any = None

    @torch.inference_mode()
    def prefill(self, embeds: torch.Tensor) -> torch.Tensor:
        self._mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        self._encoded = self._model.get_encoder()(inputs_embeds=embeds, attention_mask=self._mask, return_dict=True)
        return self.step(self.start[0])

    @torch.inference_mode()
    def step(self, token: int) -> torch.Tensor:
        output = self._model(
            encoder_outputs=self._encoded,
            attention_mask=self._mask,
            decoder_input_ids=torch.tensor([[token]], device=self._mask.device),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = output.past_key_values
        return _last(output.logits)


def start_token(settings: Any) -> int:
    """What an encoder-decoder's answer begins with; T5 checkpoints that do not say so begin with padding."""
    named = (settings.decoder_start_token_id, settings.bos_token_id, settings.pad_token_id, 0)
    return int(next(token for token in named if token is not None))


def stop_tokens(settings: Any) -> frozenset[int]:
    """The tokens that end an answer, of a `generation_config`: none, one or several."""
    found = settings.eos_token_id
    return frozenset([] if found is None else [found] if isinstance(found, int) else found)


def _last(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, :].to(torch.float32)
