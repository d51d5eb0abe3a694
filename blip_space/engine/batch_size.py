"""How much a device computes at once by default, from its kind and the memory for keys and values.

On a processor a step takes longer with every row; on a GPU it hardly does, so memory decides. Numbers of rows are
powers of two, as those of fixed slots. Depends on the memory of the device; must not import the core.
"""

from __future__ import annotations

from typing import Any

from blip_space.engine.request import CPU_BATCH_SIZE, CPU_PREFILL_TOKENS, GPU_BATCH_SIZE
from blip_space.engine.slot_cache import capacity_for
from blip_space.loading.memory import kv_positions
from blip_space.loading.precision import SMALL_PARAMETERS

SMALL_FOLDER_BATCH, LARGE_FOLDER_BATCH, GPU_FOLDER_BATCH = 64, CPU_BATCH_SIZE, 256
"""Rows of a folder job, whose captions no user waits for: of small and large models on a processor, and the most on a
GPU."""

GPU_PREFILL_TOKENS, GPU_FOLDER_PREFILL_TOKENS = 2_048, 4_096
"""How many positions a GPU prefills in one step: sixteen questions about images of BLIP-2 of users, who wait meanwhile,
and about a hundred captions of a folder job, in which further images are decoded meanwhile."""


def streaming_batch_size(model: Any) -> int:
    """How many streams, sequences without beam search, of a `VisionLanguageModel` run at once for users."""
    return _fitting_rows(model, GPU_BATCH_SIZE, model.spec.context_tokens) if is_on_gpu(model) else CPU_BATCH_SIZE


def prefill_tokens(model: Any) -> int:
    """How many positions of a `VisionLanguageModel` a step prefills for users."""
    return GPU_PREFILL_TOKENS if is_on_gpu(model) else CPU_PREFILL_TOKENS


def folder_batch_size(model: Any, positions: int) -> int:
    """How many rows, beams counted, of a `VisionLanguageModel` run at once in a folder job, whose prompts and captions
    together have this many positions."""
    if is_on_gpu(model):
        return _fitting_rows(model, GPU_FOLDER_BATCH, capacity_for(positions))
    return SMALL_FOLDER_BATCH if model.spec.parameters < SMALL_PARAMETERS else LARGE_FOLDER_BATCH


def folder_prefill_tokens(model: Any, rows: int) -> int:
    """How many positions a step prefills in a folder job with this many rows; a processor prefills all at once."""
    return GPU_FOLDER_PREFILL_TOKENS if is_on_gpu(model) else rows * int(model.spec.context_tokens)


def is_on_gpu(model: Any) -> bool:
    """Whether a `VisionLanguageModel` computes on a CUDA GPU."""
    return str(model.precision.device).startswith("cuda")


def _fitting_rows(model: Any, maximum: int, positions: int) -> int:
    """The largest power of two of rows of this many positions that memory has room for; no fewer than on a processor,
    since the scheduler admits only what fits."""
    rows = max(1, kv_positions(model) // positions)
    return max(CPU_BATCH_SIZE, min(maximum, 1 << rows.bit_length() - 1))
