"""Faster kernels for 16-bit weights on a CPU.

The weight of a linear layer is packed for oneDNN once, not in every call; and the attention of one new token is two
matrix products, since torch's kernel is made for long texts. Both add the same numbers in another order, so fp32, which
promises the same tokens as `generate`, does not use them. `python -m benchmarks.linear_layer` times a layer both ways.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from blip_space.models.family import Family

ATTENTION = "single_token"
PACKED_ROWS = 16
"""The number of rows for which oneDNN packs; packing for one and for sixteen is equally fast."""


def use_cpu_kernels(hf_model: Any, family: Family) -> None:
    """Speed up a model with 16-bit weights on the CPU, in place; it cannot be saved or trained afterwards.

    Layers that share their weight, are quantized or have adapters are left unchanged.
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # a torch without oneDNN
        return
    embeddings = hf_model.get_input_embeddings().weight
    adapted = {id(child) for layer in hf_model.modules() if hasattr(layer, "base_layer") for child in layer.modules()}
    for module in family.packed_modules(hf_model):
        # the list holds no linear layers, so that each is freed once it is packed, before the next takes memory
        parents = [parent for parent in module.modules() if type(parent) is not torch.nn.Linear]
        for parent in parents:
            for name, layer in parent.named_children() if id(parent) not in adapted else ():
                if type(layer) is torch.nn.Linear and layer.weight is not embeddings:
                    setattr(parent, name, PackedLinear(layer))
    language_model = family.language_model(hf_model)
    if language_model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, single_token_attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        language_model.set_attn_implementation(ATTENTION)


class PackedLinear(torch.nn.Module):
    """A linear layer, (..., in) to (..., out), whose weight is packed for oneDNN."""

    weight: torch.Tensor

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), PACKED_ROWS)
        self.register_buffer("weight", packed, persistent=False)
        self.bias = layer.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")
        return outputs


def single_token_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    position_bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function for transformers: query (rows, heads, new positions, width), keys and values (rows, heads,
    positions, width); returns (rows, new positions, heads, width). For more than one new position it calls torch's
    kernel."""
    rows, heads, new, width = query.shape
    if new > 1 or key.shape[1] != heads:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, position_bias=position_bias, **kwargs
        )
        return output
    keys, values, length = _contiguous_view(key), _contiguous_view(value), key.shape[2]
    products = torch.bmm(query.reshape(rows * heads, 1, width), keys.transpose(1, 2))
    scores = products.view(rows, heads, 1, -1)[..., :length].float() * (width**-0.5 if scaling is None else scaling)
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.nn.functional.pad(scores.softmax(-1).to(value.dtype), (0, values.shape[1] - length))
    return torch.bmm(weights.view(rows * heads, 1, -1), values).view(rows, heads, 1, -1).transpose(1, 2), None


def _contiguous_view(part: torch.Tensor) -> torch.Tensor:
    """`part` (rows, heads, positions, width) with its heads as rows. If `part` is the beginning of a buffer, this is
    the full buffer (rows * heads, capacity, width), which a matrix product reads without a copy."""
    rows, heads, _, width = part.shape
    capacity = part.stride(1) // width
    if part.storage_offset() or part.stride() != (heads * capacity * width, capacity * width, width, 1):
        return part.flatten(0, 1)
    return part.as_strided((rows * heads, capacity, width), (capacity * width, width, 1))
