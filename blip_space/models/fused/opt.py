"""The fused decode step of OPT. Depends on the modules of transformers' OPT."""

from __future__ import annotations

from typing import Any

import torch

from blip_space.models.fused.operations import ACTIVATIONS, Cached, Layers, Operations, Scores, UnsupportedModelError
from blip_space.models.fused.products import Product, layer_norm


class OptStep:
    """See `FusedStep`."""

    def __init__(self, body: Any, head: Any, operations: Operations) -> None:
        decoder, config = body.decoder, body.config
        if decoder.final_layer_norm is None or decoder.project_in is not None:
            raise UnsupportedModelError("its norms come after its layers, or its embeddings are projected")
        if config.activation_function not in ACTIVATIONS:
            raise UnsupportedModelError(f"its activation is {config.activation_function}")
        dtype = decoder.embed_tokens.weight.dtype
        self._operations, self._activation = operations, ACTIVATIONS[config.activation_function]
        self._tokens, self._positions = decoder.embed_tokens, decoder.embed_positions
        self._heads = int(config.num_attention_heads)
        self._width = int(config.hidden_size) // self._heads
        self._scores = Scores(self._width**-0.5)
        self._layers = [_Layer(layer, operations, dtype) for layer in decoder.layers]
        self._norm, self._head = layer_norm(decoder.final_layer_norm), Product([head], operations, dtype)

    def step(self, ids: torch.Tensor, lengths: torch.Tensor, positions: torch.Tensor, layers: Layers) -> torch.Tensor:
        """See `FusedStep`."""
        add_norm, table = self._operations.add_norm, self._positions
        states = self._tokens(ids)
        addend, bias = torch.nn.functional.embedding(positions[0] + table.offset, table.weight), None
        for layer, (keys, values) in zip(self._layers, layers, strict=True):
            normed = add_norm(states, addend, bias, layer.attention_norm)
            projected = layer.projection.heads(normed, [self._heads] * 3, self._width)
            attended = self._operations.attend(projected, Cached(keys, values, lengths), self._scores)
            normed = add_norm(states, layer.output(attended), layer.output.bias, layer.norm)
            inner = self._operations.activate(layer.first(normed), layer.first.bias, self._activation)
            addend, bias = layer.second(inner), layer.second.bias
        return self._head(add_norm(states, addend, bias, self._norm)).float()


class _Layer:
    def __init__(self, layer: Any, operations: Operations, dtype: torch.dtype) -> None:
        attention = layer.self_attn
        self.attention_norm, self.norm = layer_norm(layer.self_attn_layer_norm), layer_norm(layer.final_layer_norm)
        self.projection = Product([attention.q_proj, attention.k_proj, attention.v_proj], operations, dtype)
        self.output = Product([attention.out_proj], operations, dtype)
        self.first, self.second = (Product([part], operations, dtype) for part in (layer.fc1, layer.fc2))
