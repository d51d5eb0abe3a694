"""The size of a loaded model's weights. Depends on bitsandbytes' layers by their attributes only."""

from __future__ import annotations

from typing import Any

import torch


def weight_bytes(hf_model: Any) -> int:
    """The size of all weights in bytes, including the scales of quantized ones, which are no parameters."""
    scales = (scale for layer in hf_model.modules() for scale in _scales(layer))
    return int(hf_model.get_memory_footprint()) + sum(
        scale.nbytes for scale in scales if isinstance(scale, torch.Tensor)
    )


def _scales(layer: Any) -> list[Any]:
    weight = getattr(layer, "weight", None)
    state = getattr(weight, "quant_state", None)
    nested = getattr(state, "state2", None)  # of double quantization
    # the first forward pass moves int8 scales from the weight to the layer
    int8_scales = [getattr(holder, "SCB", None) for holder in (weight, getattr(layer, "state", None))]
    return [*int8_scales, getattr(state, "absmax", None), getattr(nested, "absmax", None)]
