"""How many sequences a device decodes at once by default, from its kind and the memory for keys and values.

On a processor a step takes longer with every row; on a GPU it hardly does, so memory decides. Numbers of rows are
powers of two, as those of fixed slots. Depends on the memory of the device; must not import the core.
"""

from __future__ import annotations

from typing import Any

from blip_space.engine.request import CPU_BATCH_SIZE, GPU_BATCH_SIZE
from blip_space.loading.memory import kv_positions
from blip_space.loading.precision import SMALL_PARAMETERS

SMALL_FOLDER_BATCH, LARGE_FOLDER_BATCH, GPU_FOLDER_BATCH = 64, CPU_BATCH_SIZE, 256
"""Rows of a folder job, whose captions no user waits for: of small and large models on a processor, and the most on a
GPU."""


def streaming_batch_size(model: Any) -> int:
    """How many streams, sequences without beam search, of a `VisionLanguageModel` run at once for users."""
    return _fitting_rows(model, GPU_BATCH_SIZE) if _is_on_gpu(model) else CPU_BATCH_SIZE


def folder_batch_size(model: Any) -> int:
    """How many rows, beams counted, of a `VisionLanguageModel` run at once in a folder job."""
    if _is_on_gpu(model):
        return _fitting_rows(model, GPU_FOLDER_BATCH)
    return SMALL_FOLDER_BATCH if model.spec.parameters < SMALL_PARAMETERS else LARGE_FOLDER_BATCH


def _is_on_gpu(model: Any) -> bool:
    return str(model.precision.device).startswith("cuda")


def _fitting_rows(model: Any, maximum: int) -> int:
    """The largest power of two of rows of the full context window that memory has room for; no fewer than on a
    processor, since the scheduler admits only what fits."""
    rows = max(1, kv_positions(model) // int(model.spec.context_tokens))
    return max(CPU_BATCH_SIZE, min(maximum, 1 << rows.bit_length() - 1))
