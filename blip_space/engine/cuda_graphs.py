"""Captures steps as CUDA graphs, and gives decoders the fused steps that are captured.

Depends on torch, CUDA and Triton; must not import a batch or a language model. Without a CUDA GPU there are no graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from blip_space.engine.step_graphs import StepGraphs
from blip_space.loading.device import free_bytes
from blip_space.models.capturing import without_collector
from blip_space.models.fused.operations import UnsupportedModelError
from blip_space.models.interface import DecoderOnly, EncoderDecoder

MEMORY_SHARE = 0.1
"""The share of the memory that is free when a model is loaded for graphs, and for buffers that only they hold."""

WARM_UP_RUNS = 3


class CudaGraphs:
    """Captures with `torch.cuda.graph`, each graph with its own memory."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here

    def capture(self, step: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """See `GraphBackend`. The runs before it choose kernels and allocate workspaces, which cannot be captured."""
        with without_collector(), torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP_RUNS):
                    step()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            try:
                # other threads may copy images to the GPU meanwhile
                with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                    logits = step()
            except Exception:
                self._end_failed_capture()
                raise
        return graph.replay, logits

    def _end_failed_capture(self) -> None:
        """Capture one operation. torch's random numbers stay in the state of a capture that failed until another one
        succeeds, and raise in every later use by this process, with or without graphs."""
        graph = torch.cuda.CUDAGraph()
        with suppress(Exception), torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            torch.zeros((), device=self._device)

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


def fuse(decoder: DecoderOnly | EncoderDecoder, graphs: StepGraphs, *, enabled: bool) -> None:
    """Give the decoder a fused step if its steps are graphs on CUDA; where that fails, `graphs` have the reason.
    Raises the error if the device is lost."""
    if not graphs.is_on or decoder.device.type != "cuda":
        return
    if not enabled:
        graphs.turn_off_fused("BLIP_SPACE_FUSED is 0")
        return
    try:
        from blip_space.models.fused.triton_operations import TritonOperations  # not on every system

        with torch.cuda.device(decoder.device), torch.no_grad():
            decoder.fuse(TritonOperations(decoder.device))
    except Exception as error:
        graphs.turn_off_fused(str(error) if isinstance(error, UnsupportedModelError) else error)
