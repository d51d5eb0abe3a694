"""Prefills prompts for slots, as a function of tensors: eagerly, or by a captured graph.

A graph is for a number of rows, a number of new positions and a number of cached positions. Prompts are packed one
after another, and the function pads them, so that filling its inputs takes few operations; prompts of other sizes take
a graph that is a little larger. The function returns keys and values of the new positions, which the caller copies to
the slots. Depends on decoders; must not import requests. Nothing here synchronises with a GPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch

from blip_space.engine.function_graphs import FunctionGraph, FunctionGraphs, Tensors
from blip_space.engine.slot_cache import next_power_of_two
from blip_space.models.interface import Decoder, Embedded

MAX_ROWS = 16
"""The most prompts of a graph: with more a GPU is busy for so long that launching kernels takes no time."""

MANY_ROWS = 64
"""If there are so many prompts, as in a folder job, so many share an eager forward pass."""

ROWS = (1, 4, 8, MAX_ROWS)
"""The numbers of rows of graphs."""

FREE_POSITIONS = 512
"""So many positions take a GPU no longer than launching the kernels of a forward pass one by one takes Python: a larger
graph may compute them in vain."""

MIN_EAGER = 16
"""After so many prefills without a graph of their sizes it is captured before the next; until then in idle time."""

Sizes: TypeAlias = tuple[int, int, int]
"""Rows, new positions, and cached positions, or the number of start tokens of an encoder-decoder model."""

Prefix: TypeAlias = torch.Tensor | None
"""Keys and values (2 * layers, heads, positions, width) of the positions before a prompt."""


class SlotPrefill(ABC):
    """Prefills up to `MANY_ROWS` prompts in one forward pass, and up to `MAX_ROWS` by a graph."""

    def __init__(self, decoder: Decoder, graphs: FunctionGraphs) -> None:
        self.graphs = graphs
        self._decoder = decoder
        self._example: Embedded | None = None
        """A prompt, from which the inputs for captures are made, once there was one."""

        self._eager: Counter[Sizes] = Counter()
        """How many forward passes were eager, by the sizes of the graph that they lacked."""

        self._pattern: torch.Tensor | None = None
        """An empty tensor with the layers, heads, width and dtype of keys and values, once there were some."""

    def __call__(self, prompts: Sequence[Embedded], prefixes: Sequence[Prefix]) -> Tensors:
        """The logits (rows, vocabulary), and keys and values of all new positions for each cache; all overwritten by
        the next call."""
        self._example = self._example or prompts[0]
        if self._pattern is None:
            self._pattern = next((prefix[:, None, :, :0][:, :0] for prefix in prefixes if prefix is not None), None)
        outputs = None
        if len(prompts) <= MAX_ROWS and (graph := self._find(self._sizes(prompts, prefixes))):
            self._fill(graph.inputs, prompts, prefixes)
            outputs = self.graphs.replay(graph)
        if not outputs:
            inputs = self._new_inputs(self._sizes(prompts, prefixes))
            self._fill(inputs, prompts, prefixes)
            outputs = self._compute(inputs, is_padded=self._is_padded(prompts, prefixes))
        if self._pattern is None:
            self._pattern = outputs[1][:, :0, :, :0].clone()
        return outputs

    def warm_up(self, lengths: Sequence[int]) -> None:
        """Capture the graphs for one prompt of each of these lengths, and in idle time those for later questions and
        for several prompts."""
        for sizes in {self._rounded(self._first_sizes(1, length)): None for length in lengths}:
            if self.graphs.is_on:
                self._capture(*sizes)
        for rows in (1, MAX_ROWS, 4):
            for sizes in (*(self._first_sizes(rows, length) for length in lengths), *self._later_sizes(rows, lengths)):
                self.graphs.request(self._rounded(sizes))

    def capture_pending(self) -> bool:
        """Capture one graph that was missing; False if there is none."""
        if self._example is None or self._pattern is None:
            return False
        key = self.graphs.next_key()
        if key is not None:
            self._capture(*key)
        return key is not None

    @abstractmethod
    def _first_sizes(self, rows: int, length: int) -> Sizes:
        """The sizes for first prompts of this length."""

    def _later_sizes(self, rows: int, lengths: Sequence[int]) -> Sequence[Sizes]:  # noqa: ARG002
        """The sizes for later questions of conversations with first prompts of these lengths."""
        return ()

    @abstractmethod
    def _compute(self, inputs: Tensors, *, is_padded: bool) -> Tensors:
        """What a call returns, from inputs; `is_padded` is whether a row is shorter than others."""

    @abstractmethod
    def _sizes(self, prompts: Sequence[Embedded], prefixes: Sequence[Prefix]) -> Sizes:
        """The sizes of a forward pass without unnecessary padding."""

    @abstractmethod
    def _rounded(self, sizes: Sizes) -> Sizes:
        """The sizes of the graph for them."""

    @abstractmethod
    def _new_inputs(self, sizes: Sizes) -> Tensors:
        """Inputs to be filled: packed embeddings (rows * new positions, hidden), and others."""

    @abstractmethod
    def _fill(self, inputs: Tensors, prompts: Sequence[Embedded], prefixes: Sequence[Prefix]) -> None:
        """Write prompts with their prefixes to inputs that may have more rows."""

    def _is_padded(self, prompts: Sequence[Embedded], prefixes: Sequence[Prefix]) -> bool:
        lengths = ({len(prompt) for prompt in prompts}, {prefix_length(prefix) for prefix in prefixes})
        return any(len(different) > 1 for different in lengths)

    def _find(self, sizes: Sizes) -> FunctionGraph | None:
        """The graph for these sizes, or a larger one that costs little more."""
        key = self._rounded(sizes)
        if graph := self.graphs.find(key):
            return graph
        limit = max(FREE_POSITIONS, 2 * sizes[0] * sizes[1])
        larger = [
            other
            for other in self.graphs.sizes
            if other[0] >= key[0] and other[1] >= key[1] and self._may_replace(other[2], key[2])
            if other[0] * other[1] <= limit
        ]
        if larger:
            return self.graphs.find(min(larger, key=lambda other: other[0] * (other[1] + other[2])))
        self._eager[key] += 1
        if self._eager[key] <= MIN_EAGER or not self.graphs.may_capture(key):
            return None
        del self._eager[key]
        self._capture(*key)
        return self.graphs.find(key)

    def _may_replace(self, other: int, cached: int) -> bool:
        """Whether a graph whose third size is `other` computes what one of `cached` does."""
        return other == cached

    def _capture(self, *sizes: int) -> None:
        self.graphs.capture(
            sizes,
            lambda *inputs: self._compute(inputs, is_padded=True),
            lambda number: self._example_inputs((sizes[0], sizes[1], sizes[2]), number),
        )

    def _example_inputs(self, sizes: Sizes, number: int) -> Tensors:
        """Inputs for rows of different lengths, not the same for each `number`."""
        inputs = self._new_inputs(sizes)
        rows = list(self._example_rows(sizes, number))
        self._fill(inputs, [prompt for prompt, _ in rows], [prefix for _, prefix in rows])
        return inputs

    def _example_rows(self, sizes: Sizes, number: int) -> Iterator[tuple[Embedded, Prefix]]:
        """Prompts from the embeddings of the example, and the beginnings of one prefix of small numbers."""
        assert self._example is not None
        assert self._pattern is not None
        example, (rows, new, cached) = self._example.embeddings, sizes
        parts, _, heads, _, width = self._pattern.shape
        prefix = self._pattern.new_empty(parts, heads, self._example_start(cached, 0), width).normal_(std=0.1)
        for row in range(rows):
            length, start = new - (5 * row + number) % (new // 2), self._example_start(cached, row + number)
            index = (torch.arange(length, device=example.device) * 7 + row) % len(example)
            positions = torch.arange(start, start + length, device=example.device)
            if self._decoder.max_positions is not None:
                positions = positions.clamp(max=self._decoder.max_positions - 1)
            embedded = Embedded(
                example.index_select(0, index),
                positions.expand(self._decoder.axes, -1),
                start + length,
                self._example.start,
            )
            yield embedded, prefix[:, :, :start] if start else None

    def _example_start(self, cached: int, number: int) -> int:  # noqa: ARG002  # an encoder takes the complete prompt
        return 0

    def _new_packed(self, rows: int, new: int) -> torch.Tensor:
        assert self._example is not None
        return self._example.embeddings.new_zeros(rows * new, self._example.embeddings.shape[1])


def pack(packed: torch.Tensor, prompts: Sequence[Embedded]) -> None:
    """Write the embeddings of prompts one after another."""
    total = sum(map(len, prompts))
    torch.cat([prompt.embeddings for prompt in prompts], out=packed[:total])


def lengths_and_offsets(prompts: Sequence[Embedded], rows: int) -> tuple[list[int], list[int]]:
    """The length of each packed prompt, and where it begins; unused rows have the first position of the first."""
    lengths = [len(prompt) for prompt in prompts]
    unused = rows - len(prompts)
    return lengths + [1] * unused, [sum(lengths[:row]) for row in range(len(lengths))] + [0] * unused


def prefix_length(prefix: Prefix) -> int:
    """The number of positions of a prefix."""
    return 0 if prefix is None else prefix.shape[2]


def rounded_positions(rows: int, new: int) -> int:
    """The positions of a graph for `new` positions of each row: with few rows padding costs little, and with many it
    takes time."""
    if rows <= MAX_ROWS // 4:
        return max(32, next_power_of_two(new)) if new <= 128 else -(-new // 128) * 128
    step = 32 if new <= 128 else 64
    return -(-new // step) * step


def rounded_rows(rows: int) -> int:
    """The rows of a graph for that many prompts."""
    return next(number for number in ROWS if number >= rows)
