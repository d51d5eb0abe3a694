"""Graphs on a CPU, which keep what a CUDA graph keeps: operations with their tensors and Python's numbers.

A captured step is the list of its operations. A replay repeats them on the same tensors, so that what changed only in
Python since the capture (a buffer, a length, a mask) does not reach it. What CUDA cannot capture raises: reading a
tensor's numbers, shapes that depend on them, and copies from the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blip_space.engine.function_graphs import FunctionGraphs
from blip_space.engine.model_runner import ENCODE
from blip_space.engine.slot_batches import PREFILL
from blip_space.engine.step_graphs import StepGraphs

aten = torch.ops.aten
SYNCHRONISING = frozenset({
    aten._local_scalar_dense.default, aten.nonzero.default, aten.is_nonzero.default, aten.masked_select.default,
    aten.lift_fresh.default, aten.lift_fresh_copy.default,
})  # fmt: skip
"""Reads of numbers, shapes by numbers, and `torch.tensor(...)`, whose numbers are copied from the host."""

CAPTURING = "transformers.utils.import_utils.is_cuda_stream_capturing"
"""By which transformers takes other ways through its code."""

CAPTURED_BYTES = 1_000

Step = Callable[[], torch.Tensor]


class CaptureError(RuntimeError):
    """CUDA could not capture the operation."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Records every operation, while it is executed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SYNCHRONISING:
            raise CaptureError(f"{func} is not permitted when a stream is capturing")
        output = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, output))
        return output


@dataclass
class RecordingBackend:
    """A `GraphBackend`. `corrupt` changes a replay's logits; `error` is raised by every capture, `replay_error` by
    every replay."""

    captures: int = 0
    replays: int = 0
    corrupt: Callable[[torch.Tensor], Any] | None = None
    error: Exception | None = None
    replay_error: Exception | None = None
    used: int = field(default=0)

    def capture(self, step: Step) -> tuple[Callable[[], None], torch.Tensor]:
        if self.error:
            raise self.error
        self.captures += 1
        self.used += CAPTURED_BYTES
        step()
        with mock.patch(CAPTURING, return_value=True), Recorder() as recorder:
            logits = step()
        logits.fill_(torch.nan)  # a capture computes nothing

        def replay() -> None:
            if self.replay_error:
                raise self.replay_error
            self.replays += 1
            repeat(recorder.operations)
            if self.corrupt:
                self.corrupt(logits)

        return replay, logits

    def free_bytes(self) -> int:
        return 10**9 - self.used


def repeat(operations: list[tuple[Any, Any, Any, Any]]) -> None:
    """Execute the operations again, and write their results to the recorded tensors."""
    for func, args, kwargs, recorded in operations:
        results = func(*args, **kwargs)
        for old, new in zip(tree_leaves(recorded), tree_leaves(results), strict=True):
            if isinstance(old, torch.Tensor) and old.numel() and old.data_ptr() != new.data_ptr():
                old.copy_(new)


def recording_graphs(
    limit_bytes: int = 10**8, *, of_steps_only: bool = True, **behaviour: Any
) -> tuple[StepGraphs, RecordingBackend]:
    """Graphs in float32 with a backend for the CPU; with `of_steps_only` prompts and images have none."""
    backend = RecordingBackend(**behaviour)
    graphs = StepGraphs(backend, torch.float32, limit_bytes)
    for name in (PREFILL, ENCODE) if of_steps_only else ():
        graphs._functions[name] = FunctionGraphs(name, None, torch.float32, 0, "of steps only")
    return graphs, backend
