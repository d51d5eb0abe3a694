"""Encodes images by captured graphs of the vision encoder: for few images launching its kernels one by one takes longer
than computing them.

Depends on a model's `load_pixels` and `encode_pixels`; must not import a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from blip_space.engine.function_graphs import FunctionGraphs, Tensors
from blip_space.engine.slot_cache import next_power_of_two
from blip_space.options import GenerationOptions

MAX_IMAGES = 8
"""The most images of one graph. More are encoded in parts: from 16 on a GPU is busy, however they are launched."""


class ImageGraphs:
    """Encodes the images of one model; graphs are for 1, 2, 4 and 8 images."""

    def __init__(self, model: Any, graphs: FunctionGraphs) -> None:
        """`model` is a `VisionLanguageModel`."""
        self._model, self._graphs = model, graphs
        self._example: torch.Tensor | None = None
        """The pixels of one image on the device, once there was one."""

    @torch.inference_mode()
    def encode(self, pixels: Sequence[Any]) -> list[torch.Tensor]:
        """See `VisionLanguageModel.encode_images`."""
        if not self._graphs.is_on:
            return list(self._model.encode_images(pixels))
        batch, features = self._load(pixels), list[torch.Tensor]()
        while len(features) < len(batch):
            rest = batch[len(features) :]
            features += self._replay(rest[:MAX_IMAGES]) or self._model.encode_pixels(rest)
        return features

    def _replay(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """The features of a few images; empty if there is no graph."""
        count = len(pixels)
        graph = self._graphs.find((next_power_of_two(count),))
        if graph is None:
            return []
        (inputs,) = graph.inputs
        inputs[:count] = pixels
        inputs[count:] = pixels[-1:]
        outputs = self._graphs.replay(graph)
        return list(outputs[0][:count].clone()) if outputs else []

    def warm_up(self) -> None:
        """Capture the graph for one image, and the others in idle time."""
        if not self._graphs.is_on:
            return
        try:
            self._load([self._model.preparation.pixels(Image.new("RGB", (64, 64)), GenerationOptions())])
            self._capture(1)
        except Exception as error:
            self._graphs.turn_off(error)
        for count in (8, 4, 2):
            self._graphs.find((count,))

    def capture_pending(self) -> bool:
        """Capture one graph that was missing; False if there is none."""
        key = self._graphs.next_key()
        if key is None:
            return False
        self._capture(*key)
        return True

    @torch.inference_mode()
    def _capture(self, count: int) -> None:
        assert self._example is not None
        shape = (count, *self._example.shape[1:])
        pixels = self._example.new_empty(shape)
        self._graphs.capture((count,), self._encode, lambda _: (pixels.normal_(),))

    def _load(self, pixels: Sequence[Any]) -> torch.Tensor:
        batch: torch.Tensor = self._model.load_pixels(pixels)
        if self._example is None:
            self._example = batch[:1].clone()
        return batch

    def _encode(self, pixels: torch.Tensor) -> Tensors:
        return (self._model.encode_pixels(pixels),)
