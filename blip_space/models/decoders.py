"""Wraps transformers' language models as `DecoderOnly` and `EncoderDecoder`.

No other module passes keys and values to transformers. Depends on its forward passes; must not import a family or
batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from blip_space.models.float32 import computing_in_float32, float32_copy
from blip_space.models.fused.bloom import BloomStep
from blip_space.models.fused.llama import LlamaStep
from blip_space.models.fused.operations import FusedStep, Operations, UnsupportedModelError
from blip_space.models.fused.opt import OptStep
from blip_space.models.fused.t5 import T5Step
from blip_space.models.interface import DecoderOnly, EncoderDecoder

FUSED_STEPS: dict[str, Callable[[Any, Any, Operations], FusedStep]] = {
    "opt": OptStep,
    "bloom": BloomStep,
    "llama": LlamaStep,
    "mistral": LlamaStep,
    "qwen2": LlamaStep,
}
"""By the type of the language model."""


def key_values_argument(module: Any) -> str:
    """The name of the parameter of `module.forward` that takes keys and values.

    transformers 5.23 calls it `past_key_values`, 5.24 `cache`. Each accepts the other's name: 5.24 with a warning at
    every call, while 5.23 ignores it silently, reads nothing from the cache and gives wrong answers.
    """
    return "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"


class CausalDecoder(DecoderOnly):
    """A decoder-only language model: its body, without a head, and its head."""

    def __init__(self, body: Any, head: Any, *, builds_own_mask: bool = False) -> None:
        """`builds_own_mask` is whether the body takes only a 2-D mask, from which BLOOM computes its ALiBi biases."""
        self.device, self.dtype = body.device, body.dtype
        self._body, self._head = body, head
        # eager attention adds the mask to the scores, so it takes no bool mask
        self._builds_own_mask = builds_own_mask or body.config._attn_implementation == "eager"
        self._argument = key_values_argument(body)
        self._takes_positions = "position_ids" in inspect.signature(body.forward).parameters
        # the name of OPT's table, whose first two rows are no positions
        table = getattr(getattr(body, "decoder", body), "embed_positions", None)
        self.max_positions = None if table is None else table.num_embeddings - getattr(table, "offset", 0)

    def forward(
        self,
        *,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        key_values: Any,
        ids: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        kwargs: dict[str, Any] = {"input_ids": ids} if embeddings is None else {"inputs_embeds": embeddings}
        if self._takes_positions:
            kwargs["position_ids"] = positions[0] if self.axes == 1 else positions
        if key_values is not None:
            kwargs[self._argument] = key_values
        output = self._body(attention_mask=mask, use_cache=key_values is not None, **kwargs)
        return _to_float(self._head(output.last_hidden_state[:, -1]))

    def prompt_mask(self, mask: torch.Tensor, new: int, *, is_padded: bool) -> torch.Tensor | None:
        if not is_padded:
            return None
        return mask if self._builds_own_mask else causal_mask(mask, new)

    def slot_mask(self, lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        mask = decode_mask(lengths, capacity)
        return mask.long() if self._builds_own_mask else mask[:, None, None]

    def in_float32(self) -> AbstractContextManager[None]:
        return computing_in_float32([self._body, self._head], self._head)

    def fuse(self, operations: Operations) -> None:
        kind = self._body.config.model_type
        if kind not in FUSED_STEPS:
            raise UnsupportedModelError(f"there is no fused step for {kind}")
        self.fused = FUSED_STEPS[kind](self._body, self._head, operations)

    def kv_bytes(self, positions: int) -> int:
        config = self._body.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * width * positions * self.dtype.itemsize)


class T5Decoder(EncoderDecoder):
    """T5 and mT5. Their positions are relative: the attention bias depends on the distance to a key."""

    def __init__(self, language_model: Any) -> None:
        self.device, self.dtype = language_model.device, language_model.dtype
        self._model = language_model
        self._argument = key_values_argument(language_model)
        self._attention = language_model.decoder.block[0].layer[0].SelfAttention
        self._is_float32 = False

    def encode(self, embeddings: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        encoder = self._model.get_encoder()
        states: torch.Tensor = encoder(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        return states

    def forward(
        self,
        ids: torch.Tensor,
        *,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        states: torch.Tensor | None,
        prompt_mask: torch.Tensor | None,
        self_attention: Any,
        cross_attention: Any,
    ) -> torch.Tensor:
        row_biases: AbstractContextManager[None] = nullcontext()
        if states is None:  # `cross_attention` has the encoder's keys and values, so only the shape is used
            assert prompt_mask is not None
            assert mask is not None
            row_biases = self._row_biases(positions, mask)
            states = torch.empty(len(ids), prompt_mask.shape[-1], 1, device=self.device, dtype=self.dtype)
            cross_attention = float32_copy(cross_attention) if self._is_float32 else cross_attention
        kwargs: dict[str, Any] = {
            "encoder_outputs": BaseModelOutput(states),
            "attention_mask": prompt_mask,
            "decoder_input_ids": ids,
            "decoder_attention_mask": mask,
        }
        if self_attention is not None:
            kwargs[self._argument] = EncoderDecoderCache(self_attention, cross_attention)
        with row_biases:
            output = self._model(use_cache=self_attention is not None, **kwargs)
        return _to_float(output.logits[:, -1])

    def prompt_mask(self, mask: torch.Tensor, *, is_padded: bool) -> torch.Tensor | None:
        return mask.bool()[:, None, None] if is_padded else None

    def start_mask(self, mask: torch.Tensor, *, is_padded: bool) -> torch.Tensor | None:
        return causal_mask(mask, mask.shape[1]) if is_padded else None

    def slot_mask(self, lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        return decode_mask(lengths, capacity)[:, None, None]

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        self._is_float32 = True
        try:
            with computing_in_float32([self._model], self._model.lm_head):
                yield
        finally:
            self._is_float32 = False

    def fuse(self, operations: Operations) -> None:
        self.fused = T5Step(self._model, operations)

    def kv_bytes(self, positions: int) -> int:
        config = self._model.config
        # keys and values of self-attention and of cross-attention
        return int(4 * config.num_decoder_layers * config.num_heads * config.d_kv * positions * self.dtype.itemsize)

    @contextmanager
    def _row_biases(self, positions: torch.Tensor, mask: torch.Tensor) -> Iterator[None]:
        """If `mask` is a slot mask, give each row its own bias: transformers assumes that all rows have one length."""
        if mask.dim() == 2:
            yield
            return
        layer, keys = self._attention, torch.arange(mask.shape[-1], device=self.device)
        buckets = layer._relative_position_bucket(
            keys - positions[0][..., None],
            bidirectional=False,
            num_buckets=layer.relative_attention_num_buckets,
            max_distance=layer.relative_attention_max_distance,
        )
        bias = layer.relative_attention_bias(buckets).permute(0, 3, 1, 2)  # (rows, heads, new, positions)
        layer.compute_bias = lambda *_, **__: bias
        try:
            yield
        finally:
            del layer.compute_bias


def decode_mask(lengths: torch.Tensor, capacity: int) -> torch.Tensor:
    """A bool mask (rows, capacity): true for the first `lengths` (rows,) positions, and the new one after them."""
    return torch.arange(capacity, device=lengths.device) <= lengths[:, None]


def causal_mask(mask: torch.Tensor, new: int) -> torch.Tensor:
    """A bool mask (rows, 1, new, cached + new), from a padding mask (rows, cached + new): each new position attends to
    itself and to the unpadded positions before it."""
    keys = torch.arange(mask.shape[1], device=mask.device)
    return mask.bool()[:, None, None] & (keys <= keys[-new:, None])


def _to_float(logits: torch.Tensor) -> torch.Tensor:
    return logits.float()
