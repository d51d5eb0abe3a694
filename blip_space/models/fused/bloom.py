"""The fused decode step of BLOOM. Depends on the modules of transformers' BLOOM."""

from __future__ import annotations

import math
from typing import Any

import torch

from blip_space.models.fused.operations import Cached, Layers, Operations, Scores, UnsupportedModelError
from blip_space.models.fused.products import Product, layer_norm


class BloomStep:
    """See `FusedStep`."""

    def __init__(self, body: Any, head: Any, operations: Operations) -> None:
        config = body.config
        if config.apply_residual_connection_post_layernorm or config.slow_but_exact:
            raise UnsupportedModelError("its configuration is not that of BLOOM's checkpoints")
        dtype = body.word_embeddings.weight.dtype
        self._operations, self._tokens = operations, body.word_embeddings
        self._width = int(config.hidden_size) // int(config.n_head)
        slopes = alibi_slopes(int(config.n_head)).to(body.word_embeddings.weight.device)
        self._scores = Scores(self._width**-0.5, slopes=slopes)
        self._layers = [_Layer(layer, operations, dtype) for layer in body.h]
        self._token_norm, self._norm = layer_norm(body.word_embeddings_layernorm), layer_norm(body.ln_f)
        self._head = Product([head], operations, dtype)

    def step(
        self,
        ids: torch.Tensor,
        lengths: torch.Tensor,
        positions: torch.Tensor,  # noqa: ARG002  # its biases depend on the distance in the cache
        layers: Layers,
    ) -> torch.Tensor:
        """See `FusedStep`."""
        add_norm = self._operations.add_norm
        states = add_norm(self._tokens(ids), None, None, self._token_norm)
        addend = bias = None
        for layer, (keys, values) in zip(self._layers, layers, strict=True):
            projected = layer.projection.interleaved_heads(add_norm(states, addend, bias, layer.norms[0]), self._width)
            attended = self._operations.attend(projected, Cached(keys, values, lengths), self._scores)
            normed = add_norm(states, layer.output(attended), layer.output.bias, layer.norms[1])
            inner = self._operations.activate(layer.first(normed), layer.first.bias, "gelu_tanh")
            addend, bias = layer.second(inner), layer.second.bias
        return self._head(add_norm(states, addend, bias, self._norm)).float()


class _Layer:
    def __init__(self, layer: Any, operations: Operations, dtype: torch.dtype) -> None:
        self.norms = layer_norm(layer.input_layernorm), layer_norm(layer.post_attention_layernorm)
        self.projection = Product([layer.self_attention.query_key_value], operations, dtype)
        self.output = Product([layer.self_attention.dense], operations, dtype)
        self.first, self.second = (
            Product([part], operations, dtype) for part in (layer.mlp.dense_h_to_4h, layer.mlp.dense_4h_to_h)
        )


def alibi_slopes(heads: int) -> torch.Tensor:
    """The slope of each head, float32 (heads,): powers of 2 ** (-8 / n), where n is the largest power of two up to
    `heads`, and for the heads beyond n the odd powers of its square root."""
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** -(2.0 ** -(math.log2(count) - 3)) for count in (power, 2 * power)]
    base, root = torch.tensor(slopes, dtype=torch.float32)
    first = torch.pow(base, torch.arange(1, power + 1))
    return torch.cat((first, torch.pow(root, torch.arange(1, 2 * (heads - power) + 1, 2))))
