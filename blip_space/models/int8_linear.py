"""Linear layers with weights of 8 bits, for a GPU: the product is that of the dequantized weights.

bitsandbytes rounds the inputs to 8 bits too, looks for outliers among them, and waits for the GPU to see whether there
are any, in every layer of every step. A CUDA graph cannot capture that, and it takes longer than dequantizing. Depends
on bitsandbytes' layers by their attributes only.
"""

from __future__ import annotations

from typing import Any

import torch

LARGEST = 127.0
"""The largest weight of 8 bits, for which a scale stands."""


def dequantize_in_products(hf_model: Any) -> None:
    """Replace bitsandbytes' 8-bit layers, in place and without another copy of their weights.

    Those of a DoRA adapter are left, since peft reads their scales from them.
    """
    for parent in list(hf_model.modules()):
        if getattr(parent, "use_dora", None) and any(parent.use_dora.values()):
            continue
        for name, layer in parent.named_children():
            if is_int8(layer):
                setattr(parent, name, Int8Linear(layer))


def is_int8(layer: Any) -> bool:
    """Whether it is bitsandbytes' layer with 8-bit weights, not one of peft around it."""
    weight = getattr(layer, "_parameters", {}).get("weight")
    return weight is not None and weight.dtype == torch.int8 and hasattr(layer, "state")


class Int8Linear(torch.nn.Module):
    """A linear layer, (..., in) to (..., out), with weights (out, in) in int8 and a scale for each output."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        scales = layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB  # moved in the first forward
        self.register_buffer("weight", layer.weight.data, persistent=False)
        self.register_buffer("scale", (scales.float() / LARGEST)[:, None], persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(inputs.dtype)
        return torch.nn.functional.linear(inputs, self.dequantize(inputs.dtype), bias)

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """The weights (out, in) in that dtype, rounded once."""
        weight = torch.empty(self.weight.shape, dtype=dtype, device=self.weight.device)
        return torch.mul(self.weight, self.scale, out=weight)
