"""Captured decode steps: a graph launches all kernels of a step at once, where Python launches them one by one.

A graph has the addresses of its buffers and of its input and output, and every number that Python computed while it was
captured. So each number of slots and each size of buffers has a graph of its own, buffers keep their addresses, and
what changes from step to step is a tensor. Every graph is compared with the eager step before it is used; if one
differs, or anything raises, graphs are off and steps run eagerly. Depends on torch and slot buffers; must not import a
batch or a language model.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from blip_space.engine.function_graphs import FunctionGraphs
from blip_space.engine.graph_backend import MAX_CAPTURES, TOLERANCE, GraphBackend, failure_reason
from blip_space.engine.graph_comparison import Columns, Fused, Step, compare
from blip_space.engine.slot_cache import SlotBuffers
from blip_space.models.transfer import copy_to_device, to_device

log = logging.getLogger(__name__)

MIN_EAGER_STEPS = 64
"""After this many eager steps of one shape its graph is captured between two steps; before that only in idle time."""

Shape = tuple[int, tuple[tuple[int, int], ...]]
"""How many slots a step computes, and the slots and capacity of each cache's buffers."""


@dataclass(eq=False)
class _Graph:
    replay: Callable[[], None]
    inputs: torch.Tensor
    logits: torch.Tensor
    nbytes: int


class StepGraphs:
    """The graphs of one model, and the buffers that only they hold; the least recently used ones are dropped first."""

    def __init__(self, backend: GraphBackend | None, dtype: torch.dtype, limit_bytes: int, reason: str = "") -> None:
        """Without a backend every step is eager, for this reason. `limit_bytes` is for everything here together."""
        self.limit_bytes = limit_bytes
        self._backend, self._dtype, self._reason = backend, dtype, reason
        self._graphs: OrderedDict[tuple[int, tuple[SlotBuffers, ...]], _Graph] = OrderedDict()
        self._functions: dict[str, FunctionGraphs] = {}
        self._spares: list[SlotBuffers] = []
        self._eager_steps: Counter[Shape] = Counter()
        self._captures: Counter[Shape] = Counter()
        self._not_fused = ""
        """Why fused steps are not captured; empty while nothing is known against it."""

    @property
    def is_on(self) -> bool:
        return self._backend is not None

    @property
    def is_used(self) -> bool:
        """Whether there are graphs, so that steps of common shapes are replays."""
        return bool(self._graphs)

    @property
    def status(self) -> str:
        """Whether graphs are on and fused, and why not."""
        if not self.is_on:
            return f"off: {self._reason}"
        count = len(self._graphs) + sum(len(graphs.sizes) for graphs in self.functions)
        return f"on, {count} captured" + (f", not fused: {self._not_fused}" if self._not_fused else "")

    @property
    def nbytes(self) -> int:
        return sum(graph.nbytes for graph in self._graphs.values()) + sum(spare.nbytes for spare in self._spares)

    @property
    def functions(self) -> Sequence[FunctionGraphs]:
        """The graphs of other functions, which have memory of their own."""
        return tuple(self._functions.values())

    def for_function(self, name: str, memory_share: float) -> FunctionGraphs:
        """The graphs of the function `name`; see `FunctionGraphs`. They may take as much memory as a share of the
        steps' graphs."""
        if name not in self._functions:
            limit_bytes = int(self.limit_bytes * memory_share)
            self._functions[name] = FunctionGraphs(name, self._backend, self._dtype, limit_bytes, self._reason)
        return self._functions[name]

    def has_graph(self, columns: Columns, buffers: Sequence[SlotBuffers]) -> bool:
        """Whether `replay` would replay a graph."""
        return (len(columns[0]), tuple(buffers)) in self._graphs

    def replay(
        self, columns: Columns, buffers: Sequence[SlotBuffers], ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The columns on the device and the logits, both overwritten by the next step; None if it has to be eager.

        `ids` (rows,) on the device, if any, are the rows' ids instead of those in `columns`.
        """
        if not self.is_on:
            return None
        key = (len(columns[0]), tuple(buffers))
        graph = self._graphs.get(key)
        if graph is None:
            self._eager_steps[_shape(*key)] += 1
            return None
        self._graphs.move_to_end(key)
        try:
            copy_to_device(columns, graph.inputs)
            if ids is not None:
                set_ids(graph.inputs, ids)
            graph.replay()
        except Exception as error:
            self.turn_off(error)
            return None
        return graph.inputs, graph.logits

    def is_due(self, count: int, buffers: Sequence[SlotBuffers]) -> bool:
        """Whether so many steps of this shape were eager that its graph is to be captured without idle time."""
        shape = _shape(count, buffers)
        return self._eager_steps[shape] >= MIN_EAGER_STEPS and self._captures[shape] < MAX_CAPTURES

    def request(self, shape: Shape) -> None:
        """Have a graph of this shape captured in idle time."""
        self._eager_steps[shape] += 1

    def next_shape(self) -> Shape | None:
        """The shape with the most eager steps since it was returned; None if no graph is missing."""
        for shape, _ in self._eager_steps.most_common() if self.is_on else ():
            del self._eager_steps[shape]
            if self._captures[shape] < MAX_CAPTURES:
                return shape
        return None

    def capture(self, columns: Columns, buffers: Sequence[SlotBuffers], step: Step, fused: Fused | None = None) -> None:
        """Capture `fused` on these buffers, else the step, and compare it with the eager step. Never raises.

        Overwrites, for every slot, the keys and values at the position of its length and at the next few, so the step
        has to run afterwards.
        """
        key = (len(columns[0]), tuple(buffers))
        shape = _shape(*key)
        del self._eager_steps[shape]
        self._captures[shape] += 1
        assert self._backend is not None
        if self._estimate(len(columns[0])) > self._backend.free_bytes() // 2:
            self._skip(shape)
            return
        for captured in ([fused] if fused is not None and not self._not_fused else []) + [Fused(step)]:
            problem = self._try(key, columns, step, captured)
            if isinstance(problem, torch.OutOfMemoryError):
                self._skip(shape)
            elif problem and captured is fused:
                self.turn_off_fused(problem)
                continue
            elif problem:
                self.turn_off(problem)
            return

    def _estimate(self, slots: int) -> int:
        """The memory in bytes that a graph of a step over so many slots might take; 0 as long as nothing is known."""
        row = max((graph.logits[:1].nbytes for graph in self._graphs.values()), default=0)
        return min((graph.nbytes for graph in self._graphs.values()), default=0) + 4 * slots * row

    def _skip(self, shape: Shape) -> None:
        """Let the steps of this shape be eager until all graphs are dropped."""
        self._captures[shape] = MAX_CAPTURES
        log.info("there is no memory for a graph of %d slots", shape[0])

    def _try(
        self, key: tuple[int, tuple[SlotBuffers, ...]], columns: Columns, step: Step, captured: Fused
    ) -> Exception | str:
        """Capture a step, and keep its graph if it computes what the eager `step` does; else why it is not kept."""
        assert self._backend is not None
        buffers = key[1][0]
        try:
            before = self._backend.free_bytes()
            inputs = to_device(columns, buffers.layers[0][0].device)
            replay, logits = self._backend.capture(lambda: captured.step(inputs))
            if reason := compare(
                replay, inputs, logits, columns, buffers, step, TOLERANCE[self._dtype], captured.precise
            ):
                return reason
            graph = _Graph(replay, inputs, logits, max(0, before - self._backend.free_bytes()))
        except Exception as error:
            return error
        self._graphs[key] = graph
        self._evict()
        return ""

    def turn_off_fused(self, reason: Exception | str) -> None:
        """Capture transformers' forward pass from now on. Raises the error if the device is lost."""
        self._not_fused = failure_reason(reason)
        log.warning("decode steps are not fused: %s", self._not_fused)

    def turn_off(self, reason: Exception | str) -> None:
        """Drop all graphs, and let every further step be eager. Raises the error if the device is lost."""
        self._backend, self._reason = None, failure_reason(reason)
        self._clear()
        log.warning("decode steps run without CUDA graphs from now on: %s", self._reason)

    def clear(self) -> None:
        """Free all memory, that of other functions too; graphs are captured again when their shapes occur."""
        self._clear()
        for function in self.functions:
            function.clear()

    def _clear(self) -> None:
        self._graphs.clear()
        self._spares.clear()
        self._captures.clear()

    def has_graphs(self, buffers: SlotBuffers) -> bool:
        """See `BufferKeeper`."""
        return any(buffers in held for _, held in self._graphs)

    def keep(self, buffers: SlotBuffers) -> None:
        """See `BufferKeeper`; buffers of more than half of the memory are not kept."""
        if buffers.nbytes > self.limit_bytes // 2:
            for key in [key for key in self._graphs if buffers in key[1]]:
                del self._graphs[key]
        self._spares.append(buffers)
        self._evict()

    def take(self, owner: object, slots: int, capacity: int) -> SlotBuffers | None:
        """See `BufferKeeper`."""
        for spare in self._spares:
            if spare.owner is owner and (spare.slots, spare.capacity) == (slots, capacity):
                self._spares.remove(spare)
                if spare.tensor is not None:
                    spare.tensor.zero_()
                return spare
        return None

    def _evict(self) -> None:
        """Drop the least recently used graphs until the memory suffices, and buffers that no graph holds."""
        self._spares = [spare for spare in self._spares if self.has_graphs(spare)]
        while self._graphs and self.nbytes > self.limit_bytes:
            self._graphs.popitem(last=False)
            self._spares = [spare for spare in self._spares if self.has_graphs(spare)]


def set_ids(inputs: torch.Tensor, ids: torch.Tensor) -> None:
    """Overwrite the ids of the rows in the columns of a step, which are on the same device."""
    inputs[0].index_copy_(0, inputs[-1, : len(ids)], ids)


def _shape(count: int, buffers: Sequence[SlotBuffers]) -> Shape:
    return count, tuple((part.slots, part.capacity) for part in buffers)
