"""Captured functions of tensors, such as encoding images or prefilling prompts: a graph for each shape of the inputs.

The caller overwrites a graph's inputs, replays it, and copies what it needs of the outputs. All graphs of a function
have their inputs in the same memory. Every graph is compared with the eager function before it is used; if one differs,
or anything raises, the graphs of this function are off, and it runs eagerly. Depends on torch; must not import a batch
or a language model.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from blip_space.engine.graph_backend import MAX_CAPTURES, TOLERANCE, GraphBackend, failure_reason

log = logging.getLogger(__name__)

FIRST_ESTIMATE = 200
"""How many times as much memory as its first input the first graph of a function may take; then it is known."""

PROOF_RUNS = 2
"""How many replays of a graph are compared with the eager function."""

ALIGNMENT = 256
"""In bytes, as torch's own allocations have."""

Key: TypeAlias = tuple[int, ...]
"""The sizes that a graph was captured for."""

Tensors: TypeAlias = tuple[torch.Tensor, ...]

Function: TypeAlias = Callable[..., Tensors]
"""Tensors to new tensors, whose shapes depend on the shapes of the first only."""


@dataclass(eq=False)
class FunctionGraph:
    """A captured function. A replay reads `inputs` and overwrites `outputs`."""

    inputs: Tensors
    outputs: Tensors
    replay: Callable[[], None]
    nbytes: int = 0


class FunctionGraphs:
    """The graphs of one function; the least recently used ones are dropped first."""

    def __init__(
        self, name: str, backend: GraphBackend | None, dtype: torch.dtype, limit_bytes: int, reason: str = ""
    ) -> None:
        """`name` is what the function does, as part of a sentence. Without a backend it always runs eagerly, for this
        reason. `limit_bytes` is for all graphs together."""
        self.name = name
        self.limit_bytes = limit_bytes
        self._backend, self._tolerance, self._reason = backend, TOLERANCE[dtype], reason
        self._graphs: OrderedDict[Key, FunctionGraph] = OrderedDict()
        self._missed: Counter[Key] = Counter()
        self._captures: Counter[Key] = Counter()
        self._estimate = 0.0
        """The largest size of a graph so far without its inputs, as a multiple of the first."""

        self._inputs: list[torch.Tensor] = []
        """The memory of the inputs; if it is too small, more is taken, and the earlier graphs keep theirs."""

        self.has_failed = False

    @property
    def is_on(self) -> bool:
        return self._backend is not None

    @property
    def status(self) -> str:
        """Whether graphs are on, and why not."""
        return f"on, {len(self._graphs)} captured" if self.is_on else f"off: {self._reason}"

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self._inputs) + sum(graph.nbytes for graph in self._graphs.values())

    def find(self, key: Key) -> FunctionGraph | None:
        """The graph of these sizes; if there is none, it is captured in idle time."""
        if not self.is_on:
            return None
        graph = self._graphs.get(key)
        if graph is None:
            self._missed[key] += 1
        else:
            self._graphs.move_to_end(key)
        return graph

    def request(self, key: Key) -> None:
        """Have a graph of these sizes captured in idle time."""
        if self.is_on and key not in self._graphs:
            self._missed[key] += 1

    def may_capture(self, key: Key) -> bool:
        """Whether a graph of these sizes was not captured too often, or turned out to be too large."""
        return self.is_on and self._captures[key] < MAX_CAPTURES

    @property
    def sizes(self) -> Sequence[Key]:
        """The sizes of all graphs."""
        return tuple(self._graphs)

    def replay(self, graph: FunctionGraph) -> Tensors | None:
        """The outputs for the present inputs, overwritten by the next replay; None if it has to be eager."""
        try:
            graph.replay()
        except Exception as error:
            self.turn_off(error)
            return None
        return graph.outputs

    def next_key(self) -> Key | None:
        """The sizes that were missed most often since they were returned; None if no graph is missing."""
        for key, _ in self._missed.most_common() if self.is_on else ():
            del self._missed[key]
            if self._captures[key] < MAX_CAPTURES:
                return key
        return None

    def capture(self, key: Key, function: Function, example: Callable[[int], Tensors]) -> None:
        """Capture the function for inputs of these sizes, and compare it with the eager one on different ones, which
        `example` makes for each number. Never raises, unless the device is lost."""
        self._captures[key] += 1
        del self._missed[key]
        try:
            assert self._backend is not None
            first = example(0)
            first_bytes, free = first[0].nbytes, self._backend.free_bytes()
            estimate = int((self._estimate or FIRST_ESTIMATE) * first_bytes) + _size(first)
            if estimate > min(self.limit_bytes, free // 2):
                log.info("no graph to %s for %s: it might take %d MB", self.name, key, estimate // 10**6)
                self._captures[key] = MAX_CAPTURES
                return
            inputs = self._new_inputs(first)
            before = self._backend.free_bytes()
            graph = _capture(self._backend, function, inputs)
            for number in reversed(range(PROOF_RUNS)):
                if reason := self._difference(graph, function, example(number) if number else first):
                    self.turn_off(reason)
                    return
            graph.nbytes = max(0, before - self._backend.free_bytes())
        except Exception as error:
            self.turn_off(error)
            return
        self._estimate = max(self._estimate, graph.nbytes / first_bytes)
        self._graphs[key] = graph
        while self._graphs and self.nbytes > self.limit_bytes:
            self._graphs.popitem(last=False)

    def turn_off(self, reason: Exception | str) -> None:
        """Drop all graphs, and let the function run eagerly from now on. Raises the error if the device is lost."""
        self._reason = failure_reason(reason)
        self._backend, self.has_failed = None, True
        self.clear()
        log.warning("from now on no CUDA graphs are used to %s: %s", self.name, self._reason)

    def clear(self) -> None:
        """Free all memory; graphs are captured again when their sizes occur."""
        self._graphs.clear()
        self._inputs.clear()
        self._missed.clear()
        self._captures.clear()

    def _new_inputs(self, example: Tensors) -> Tensors:
        """Copies of an example's tensors, in the memory of all inputs."""
        if not self._inputs or self._inputs[-1].nbytes < _size(example):
            self._inputs.append(torch.empty(_size(example), dtype=torch.uint8, device=example[0].device))
        inputs, start = list[torch.Tensor](), 0
        for part in example:
            own = self._inputs[-1][start : start + part.nbytes].view(part.dtype).view(part.shape)
            inputs.append(own.copy_(part))
            start += _aligned(part.nbytes)
        return tuple(inputs)

    def _difference(self, graph: FunctionGraph, function: Function, example: Tensors) -> str:
        """How a replay's outputs differ from the eager ones; empty if they agree."""
        for own, part in zip(graph.inputs, example, strict=True):
            own.copy_(part)
        graph.replay()
        for output, expected in zip(graph.outputs, function(*example), strict=True):
            error, largest = float((expected - output).abs().max()), float(expected.abs().max())
            allowed = self._tolerance * max(1.0, largest)
            if not error <= allowed:  # also where one is NaN
                return f"the result of a graph differs from the eager one by {error:.2g}, and {allowed:.2g} is allowed"
        return ""


def _capture(backend: GraphBackend, function: Function, inputs: Tensors) -> FunctionGraph:
    outputs = list[torch.Tensor]()

    def step() -> torch.Tensor:
        outputs[:] = function(*inputs)
        return outputs[0]

    replay, first = backend.capture(step)
    assert first is outputs[0]
    return FunctionGraph(inputs, tuple(outputs), replay)


def _size(tensors: Tensors) -> int:
    """The size in bytes, each aligned."""
    return sum(_aligned(part.nbytes) for part in tensors)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
