"""What makes 16-bit weights fast on a processor, on top of what torch does by itself.

A linear layer's weight is laid out once as oneDNN reads it, where torch lays it out anew in every call; and one new
token looks back with two products of matrices, where torch's attention is made for long texts. Both compute the same
sums in another order, so fp32, which promises the tokens of `generate`, is left alone. Times of a layer both ways:
`python -m benchmarks.linear_layer`.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from blip_space.models.family import Family

ATTENTION = "one_new_token"
ROWS = 16
"""oneDNN is told how many rows there will be; layouts for one row and for sixteen are equally fast."""


def use_cpu_kernels(network: Any, family: Family) -> None:
    """Change a network of 16-bit weights on the processor in place; it cannot be saved or trained afterwards.

    Layers that share their weight, are quantised or have adapters stay what they are.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # a torch without oneDNN
        return
    table = network.get_input_embeddings().weight
    adapted = {id(part) for layer in network.modules() if hasattr(layer, "base_layer") for part in layer.modules()}
    for part in family.packed_modules(network):
        # without the linear layers, each of which is to go as soon as it is packed: all of them take the memory twice
        parents = [module for module in part.modules() if type(module) is not torch.nn.Linear]
        for parent in parents:
            for name, layer in parent.named_children() if id(parent) not in adapted else ():
                if type(layer) is torch.nn.Linear and layer.weight is not table:
                    setattr(parent, name, PackedLinear(layer))
    language_model = family.language_model(network)
    if language_model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, single_token_attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        language_model.set_attn_implementation(ATTENTION)


class PackedLinear(torch.nn.Module):
    """A linear layer, (..., in) to (..., out), whose weight lies as oneDNN's kernels read it."""

    weight: torch.Tensor

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        self.register_buffer("weight", packed, persistent=False)
        self.bias = layer.bias

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(given, self.weight, self.bias, "none", [], "")
        return made


def single_token_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    position_bias: torch.Tensor | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: query of (rows, heads, new positions, width), keys and values of (rows,
    heads, positions, width); (rows, new positions, heads, width). Longer texts than one new token are torch's."""
    rows, heads, new, width = query.shape
    if new > 1 or key.shape[1] != heads:
        done: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, position_bias=position_bias, **given
        )
        return done
    keys, values, read = _whole(key), _whole(value), key.shape[2]
    products = torch.bmm(query.reshape(rows * heads, 1, width), keys.transpose(1, 2))
    scores = products.view(rows, heads, 1, -1)[..., :read].float() * (width**-0.5 if scaling is None else scaling)
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    shares = torch.nn.functional.pad(scores.softmax(-1).to(value.dtype), (0, values.shape[1] - read))
    return torch.bmm(shares.view(rows * heads, 1, -1), values).view(rows, heads, 1, -1).transpose(1, 2), None


def _whole(part: torch.Tensor) -> torch.Tensor:
    """The first positions of a buffer (rows, heads, capacity, width) as all of it, (rows * heads, capacity, width).

    Products read that as it lies, where they would copy a part of it. What is no such part is returned as it is.
    """
    rows, heads, _, width = part.shape
    capacity = part.stride(1) // width
    if part.storage_offset() or part.stride() != (heads * capacity * width, capacity * width, width, 1):
        return part.flatten(0, 1)
    return part.as_strided((rows * heads, capacity, width), (capacity * width, width, 1))
