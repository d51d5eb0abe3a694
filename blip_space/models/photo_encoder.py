"""A second image encoder for photographs: EfficientNet-Lite0, a classifier of ImageNet's 1 000 classes.

A model that was trained on drawings does not recognize photographs. This encoder decides whether an image is one, and
replaces the image's features by a report: the features that the model's own encoder has for a drawing of the same
thing. Below a threshold the report is that of an image that the model does not know. Depends on torch; reads no file.

The architecture follows Tan and Le, EfficientNet, 2019 (arXiv:1905.11946), in its "lite" variant for phones: no
squeeze-and-excitation, ReLU6 for every activation, batch norms folded into the convolutions.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from blip_space.images import Resize

SIDE = 224
RESIZE = Resize(SIDE, SIDE, Image.Resampling.BICUBIC, 0.875)
"""The classifier was trained on the central 224 pixels of images whose shorter side is 256."""

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""The strides of the blocks' depthwise convolutions. All other sizes are those of the weights."""

FEATURES, CLASSES = 1280, 1000
HALF_RANGE = 127.5
"""Bytes are normalized to values from -1 to 1."""

Weights = dict[str, Tensor]


class PhotoEncoder(nn.Module):
    """The classifier, the gate and the reports. Everything is float32: the network is small."""

    def __init__(self, weights: Weights, concepts: Tensor, threshold: float) -> None:
        """`weights` has the tensors of the files by name. `concepts` (classes, concepts) is 1 where a class belongs to
        a concept. An image gets the report of the likeliest concept if its classes together have a probability above
        `threshold`. Raises `KeyError` for a missing weight, `RuntimeError` or `ValueError` for one of another shape.
        """
        super().__init__()
        self.network = Network(weights)
        self.classes = _linear(weights, "classes", CLASSES)
        self.gate = _linear(weights, "gate", 1)
        self.threshold = threshold
        self.concepts: Tensor
        self.reports: Tensor
        self.register_buffer("concepts", concepts.float())
        self.register_buffer("reports", _reports(weights, concepts.shape[1]).float())
        self.requires_grad_(False).eval()

    def replace_photographs(self, pixels: Tensor, features: Tensor) -> Tensor:
        """The features (images, positions, hidden), with those of photographs replaced by their reports.

        `pixels` are the images' bytes as floats, (images, 3, SIDE, SIDE).
        """
        is_photograph, report = self.classify(pixels)
        return torch.where(is_photograph[:, None, None], self.reports[report].to(features.dtype), features)

    def classify(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each image is a photograph, and the index of its concept, or the number of concepts for none."""
        pooled = self.network(pixels.float() / HALF_RANGE - 1)
        probabilities = self.classes(pooled).softmax(-1) @ self.concepts
        highest, concept = probabilities.max(-1)
        is_known = highest > self.threshold
        return self.gate(pooled)[:, 0] > 0, torch.where(is_known, concept, len(self.reports) - 1)

    @property
    def nbytes(self) -> int:
        """The size of all tensors, in bytes."""
        return sum(tensor.nbytes for tensor in (*self.parameters(), *self.buffers()))


class Network(nn.Module):
    """The convolutions: pixels (images, 3, SIDE, SIDE) become features (images, FEATURES)."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.stem = _convolution(weights, "stem", stride=2)
        self.blocks = nn.ModuleList(_Block(weights, f"blocks.{index}", stride) for index, stride in enumerate(STRIDES))
        self.head = _convolution(weights, "head")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it; twice as fast

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = _activate(self.stem(pixels.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            hidden = block(hidden)
        return _activate(self.head(hidden)).mean((2, 3))


class _Block(nn.Module):
    """An inverted residual: a pointwise expansion (not in the first block), a depthwise convolution, a projection."""

    def __init__(self, weights: Weights, name: str, stride: int) -> None:
        super().__init__()
        has_expansion = f"{name}.expand.weight" in weights
        self.expand = _convolution(weights, f"{name}.expand") if has_expansion else None
        self.depthwise = _convolution(weights, f"{name}.depthwise", stride=stride)
        self.project = _convolution(weights, f"{name}.project")

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs if self.expand is None else _activate(self.expand(inputs))
        outputs: Tensor = self.project(_activate(self.depthwise(hidden)))
        return outputs + inputs if outputs.shape == inputs.shape else outputs


def _activate(hidden: Tensor) -> Tensor:
    return hidden.clamp_(0, 6)


def _convolution(weights: Weights, name: str, *, stride: int = 1) -> nn.Module:
    """The convolution of that name, padded as TensorFlow does: with stride 2 more on the right and at the bottom."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    count, per_group, side, _ = kernel.shape
    is_depthwise = per_group == 1
    layer = nn.Conv2d(
        count if is_depthwise else per_group,
        count,
        side,
        stride,
        padding=side // 2 if stride == 1 else 0,
        groups=count if is_depthwise else 1,
    )
    _set(layer, kernel, bias)
    if stride == 1:
        return layer
    before = (side - 2) // 2
    return nn.Sequential(nn.ZeroPad2d((before, side - 2 - before) * 2), layer)


def _linear(weights: Weights, name: str, outputs: int) -> nn.Linear:
    layer = nn.Linear(FEATURES, outputs)
    _set(layer, weights[f"{name}.weight"], weights[f"{name}.bias"])
    return layer


def _set(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})


def _reports(weights: Weights, concepts: int) -> Tensor:
    """The report of each concept and, as the last one, of an unknown image: (concepts + 1, positions, hidden). A
    concept's report is `report.known`, with the concept's code added at the positions where `report.positions` is 1."""
    codes, known, unknown = (weights[f"report.{name}"].float() for name in ("codes", "known", "unknown"))
    if len(codes) != concepts:
        raise ValueError(f"{len(codes)} codes for {concepts} concepts")
    reports = known + weights["report.positions"].float()[:, None] * codes[:, None]
    return torch.cat([reports, unknown[None]])
