"""The fused decode step of LLaMA and of the models whose layers are LLaMA's. Depends on transformers' modules."""

from __future__ import annotations

from typing import Any

import torch

from blip_space.models.fused.operations import ACTIVATIONS, Cached, Layers, Operations, Scores, UnsupportedModelError
from blip_space.models.fused.products import Product, rms_norm

FIXED_ROTARY = frozenset({"default", "linear", "llama3", "yarn"})
"""Kinds of rotary embeddings whose frequencies do not depend on the length."""


class LlamaStep:
    """See `FusedStep`."""

    def __init__(self, body: Any, head: Any, operations: Operations) -> None:
        config = body.config
        if config.hidden_act not in ACTIVATIONS:
            raise UnsupportedModelError(f"its activation is {config.hidden_act}")
        if body.rotary_emb.rope_type not in FIXED_ROTARY or getattr(config, "sliding_window", None):
            raise UnsupportedModelError("its rotary embeddings or its attention depend on the length")
        dtype = body.embed_tokens.weight.dtype
        self._operations, self._activation = operations, ACTIVATIONS[config.hidden_act]
        self._tokens, self._rotary = body.embed_tokens, body.rotary_emb
        attention = body.layers[0].self_attn
        heads, self._width = int(config.num_attention_heads), int(attention.head_dim)
        self._heads = [heads, *[heads // int(attention.num_key_value_groups)] * 2]
        self._layers = [_Layer(layer, operations, dtype) for layer in body.layers]
        self._norm, self._head = rms_norm(body.norm), Product([head], operations, dtype)

    def step(self, ids: torch.Tensor, lengths: torch.Tensor, positions: torch.Tensor, layers: Layers) -> torch.Tensor:
        """See `FusedStep`."""
        add_norm, states = self._operations.add_norm, self._tokens(ids)
        scores = Scores(self._width**-0.5, rotary=self._angles(positions[0]))
        addend = bias = None
        for layer, (keys, values) in zip(self._layers, layers, strict=True):
            projected = layer.projection.heads(add_norm(states, addend, bias, layer.norms[0]), self._heads, self._width)
            attended = self._operations.attend(projected, Cached(keys, values, lengths), scores)
            normed = add_norm(states, layer.output(attended), layer.output.bias, layer.norms[1])
            addend, bias = layer.last(self._operations.gate(layer.first(normed), self._activation)), layer.last.bias
        return self._head(add_norm(states, addend, bias, self._norm)).float()

    def _angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of the rows' positions, float32 (rows, width)."""
        angles = (positions[:, None].float() * self._rotary.inv_freq.float()).repeat(1, 2)
        scale = float(self._rotary.attention_scaling)
        return angles.cos() * scale, angles.sin() * scale


class _Layer:
    def __init__(self, layer: Any, operations: Operations, dtype: torch.dtype) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norms = rms_norm(layer.input_layernorm), rms_norm(layer.post_attention_layernorm)
        self.projection = Product([attention.q_proj, attention.k_proj, attention.v_proj], operations, dtype)
        self.output = Product([attention.o_proj], operations, dtype)
        self.first = Product([mlp.gate_proj, mlp.up_proj], operations, dtype)
        if self.first.bias is not None:
            raise UnsupportedModelError("its gates have biases")
        self.last = Product([mlp.down_proj], operations, dtype)
