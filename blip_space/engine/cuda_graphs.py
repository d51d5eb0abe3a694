"""Captures steps as CUDA graphs.

Depends on torch and CUDA; must not import a batch or a language model. Without a CUDA GPU there are no graphs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from blip_space.engine.step_graphs import StepGraphs
from blip_space.loading.device import free_bytes

MEMORY_SHARE = 0.1
"""The share of the memory that is free when a model is loaded for graphs, and for buffers that only they hold."""

WARM_UP_RUNS = 3


class CudaGraphs:
    """Captures with `torch.cuda.graph`, each graph with its own memory."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here

    def capture(self, step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """See `GraphBackend`. The runs before it choose kernels and allocate workspaces, which cannot be captured."""
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP_RUNS):
                    step()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # other threads may copy images to the GPU meanwhile
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                logits = step()
        return graph.replay, logits

    def free_bytes(self) -> int:
        """See `GraphBackend`; without what torch has reserved, since a graph's memory is reserved too."""
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self._device)[0]


def new_step_graphs(device: torch.device, dtype: torch.dtype, *, enabled: bool) -> StepGraphs:
    """The graphs of a model on this device; off unless it is CUDA."""
    if not enabled:
        return StepGraphs(None, dtype, 0, "BLIP_SPACE_GRAPHS is 0")
    if device.type != "cuda" or not torch.cuda.is_available():
        return StepGraphs(None, dtype, 0, "CUDA graphs need a CUDA GPU")
    return StepGraphs(CudaGraphs(device), dtype, int((free_bytes(str(device)) or 0) * MEMORY_SHARE))
