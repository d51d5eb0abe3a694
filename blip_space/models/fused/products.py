"""Matrix products of a fused decode step: of several layers at once where their weights allow it.

Depends on torch only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from blip_space.models.fused.operations import Norm, Operations, Projected, UnsupportedModelError


class Product:
    """The outputs of linear layers of one input, side by side, as one product if all have plain weights. Layers that
    are quantized or have adapters are called one by one.

    `bias` is what the result lacks; it is None where there is none or a layer has added it.
    """

    def __init__(self, layers: Sequence[Any], operations: Operations, dtype: torch.dtype) -> None:
        self._layers, self._operations = layers, operations
        self._weight: torch.Tensor | None = None
        self.bias: torch.Tensor | None = None
        biases: list[Any] = [getattr(layer, "bias", None) for layer in layers]
        is_plain = all(type(layer) is torch.nn.Linear and layer.weight.dtype == dtype for layer in layers)
        if is_plain and (all(bias is None for bias in biases) or all(bias is not None for bias in biases)):
            self._weight = stack([layer.weight for layer in layers])
            operations.add_weight(self._weight)
            self.bias = None if biases[0] is None else stack(biases)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """The outputs (rows, out) for inputs (rows, in), without `bias`."""
        if self._weight is not None:
            return self._operations.product(inputs, self._weight)
        outputs = [layer(inputs).to(inputs.dtype) for layer in self._layers]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)

    def heads(self, inputs: torch.Tensor, counts: Sequence[int], width: int) -> Projected:
        """Query, key and value, of so many heads each, from outputs in this order; only the query if it is alone."""
        sizes = [count * width for count in counts]
        parts = [_by_head(part, width) for part in torch.split(self(inputs), sizes, -1)]
        biases = [] if self.bias is None else [_by_head(part, width) for part in torch.split(self.bias, sizes)]
        return Projected(*_three(parts), *_three(biases))

    def interleaved_heads(self, inputs: torch.Tensor, width: int) -> Projected:
        """Query, key and value from outputs that have these three for one head after the other."""
        parts = _by_head(self(inputs), 3, width).unbind(-2)
        biases = () if self.bias is None else _by_head(self.bias, 3, width).unbind(-2)
        return Projected(*_three(parts), *_three(biases))


def stack(parameters: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """The parameters one below the other; each becomes a view of the result, so that none takes memory twice."""
    if len(parameters) == 1:
        return parameters[0].data
    with torch.inference_mode(parameters[0].is_inference()):  # a parameter and its numbers have one kind
        stacked = torch.cat([parameter.data for parameter in parameters])
    for parameter, part in zip(parameters, torch.split(stacked, [len(part) for part in parameters]), strict=True):
        parameter.data = part
    return stacked


def _by_head(part: torch.Tensor, *sizes: int) -> torch.Tensor:
    """The last dimension as heads, each of these sizes."""
    return part.view(*part.shape[:-1], -1, *sizes)


def _three(parts: Sequence[torch.Tensor]) -> list[Any]:
    return [*parts, None, None, None][:3]


def layer_norm(layer: Any) -> Norm:
    """A `torch.nn.LayerNorm` as the operations take it."""
    if layer.weight is None:
        raise UnsupportedModelError("a layer norm has no weight")
    return Norm(layer.weight.data, layer.bias.data, float(layer.eps), centred=True)


def rms_norm(layer: Any) -> Norm:
    """An RMS norm of transformers as the operations take it."""
    return Norm(layer.weight.data, None, float(layer.variance_epsilon), centred=False)
