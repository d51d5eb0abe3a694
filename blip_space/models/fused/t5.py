"""The fused decode step of the decoder of T5 and mT5. Depends on the modules of transformers' T5."""

from __future__ import annotations

from typing import Any

import torch

from blip_space.models.fused.operations import ACTIVATIONS, Cached, Layers, Operations, Scores, UnsupportedModelError
from blip_space.models.fused.products import Product, rms_norm


class T5Step:
    """See `FusedDecoderStep`."""

    def __init__(self, language_model: Any, operations: Operations) -> None:
        decoder, config = language_model.decoder, language_model.config
        if config.dense_act_fn not in ACTIVATIONS:
            raise UnsupportedModelError(f"its activation is {config.dense_act_fn}")
        dtype = decoder.final_layer_norm.weight.dtype
        if dtype == torch.float16:
            raise UnsupportedModelError("its states are too large for fp16")
        self._operations, self._activation = operations, ACTIVATIONS[config.dense_act_fn]
        self._heads, self._width = int(config.num_heads), int(config.d_kv)
        self._tokens, self._is_gated = decoder.embed_tokens, bool(config.is_gated_act)
        self._distances = distance_biases(decoder.block[0].layer[0].SelfAttention)
        self._layers = [_Layer(block, operations, dtype) for block in decoder.block]
        self._norm = rms_norm(decoder.final_layer_norm)
        self._head = Product([language_model.lm_head], operations, dtype)
        is_scaled = getattr(config, "scale_decoder_outputs", False)  # which mT5 does not have
        self._output_scale = config.d_model**-0.5 if is_scaled else None

    def step(
        self,
        ids: torch.Tensor,
        lengths: torch.Tensor,
        positions: torch.Tensor,
        layers: Layers,
        prompt_lengths: torch.Tensor,
        prompt_layers: Layers,
    ) -> torch.Tensor:
        """See `FusedDecoderStep`."""
        add_norm, attend, heads = self._operations.add_norm, self._operations.attend, self._heads
        own, cross = Scores(1.0, distances=self._distances, positions=positions[0]), Scores(1.0)
        states: torch.Tensor = self._tokens(ids)
        addend = None
        for layer, cached, prompt in zip(self._layers, layers, prompt_layers, strict=True):
            normed = add_norm(states, addend, None, layer.norms[0])
            projected = layer.projection.heads(normed, [heads] * 3, self._width)
            attended = layer.output(attend(projected, Cached(*cached, lengths), own))
            normed = add_norm(states, attended, None, layer.norms[1])
            query = layer.query.heads(normed, [heads], self._width)
            attended = layer.cross_output(attend(query, Cached(*prompt, prompt_lengths), cross))
            inner = layer.first(add_norm(states, attended, None, layer.norms[2]))
            if self._is_gated:
                inner = self._operations.gate(inner, self._activation)
            else:
                inner = self._operations.activate(inner, None, self._activation)
            addend = layer.second(inner)
        states = add_norm(states, addend, None, self._norm)
        return self._head(states if self._output_scale is None else states * self._output_scale).float()


class _Layer:
    def __init__(self, block: Any, operations: Operations, dtype: torch.dtype) -> None:
        own, cross, last = block.layer
        attention, dense = own.SelfAttention, last.DenseReluDense
        if dense.wo.weight.dtype == torch.float32 != dtype:
            raise UnsupportedModelError("its last products are in fp32")
        self.norms = [rms_norm(part.layer_norm) for part in block.layer]
        self.projection = Product([attention.q, attention.k, attention.v], operations, dtype)
        self.output = Product([attention.o], operations, dtype)
        self.query = Product([cross.EncDecAttention.q], operations, dtype)
        self.cross_output = Product([cross.EncDecAttention.o], operations, dtype)
        first = [dense.wi_0, dense.wi_1] if hasattr(dense, "wi_0") else [dense.wi]
        self.first, self.second = Product(first, operations, dtype), Product([dense.wo], operations, dtype)


def distance_biases(attention: Any) -> torch.Tensor:
    """The bias (heads, distances) of each distance back to a key; the last is that of all larger ones."""
    table, largest = attention.relative_attention_bias, attention.relative_attention_max_distance
    buckets = attention._relative_position_bucket(
        -torch.arange(largest + 1, device=table.weight.device),
        bidirectional=False,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=largest,
    )
    biases: torch.Tensor = table(buckets).transpose(0, 1).contiguous()
    return biases
