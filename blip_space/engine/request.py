"""Stands for the engine's own module until that is here."""

from __future__ import annotations

from dataclasses import dataclass

from blip_space.inference.request import Budget, Request, refuse_foreign
from blip_space.inference.request import measured as measure_budget

__all__ = ["Budget", "EngineConfig", "Request", "measure_budget", "refuse_foreign"]


@dataclass(frozen=True)
class EngineConfig:
    """How much an engine takes on."""

    max_batch_size: int = 16
    max_beam_groups: int = 4
    max_waiting: int = 32
    max_background: int = 64
    max_prefill_tokens: int = 512
    time_slice_tokens: int = 64
    fill_share: float = 0.0
    timeout_seconds: float = 300.0
    background_timeout_seconds: float = 1_800.0
    failure_seconds: float = 180.0
    recovery_seconds: float = 60.0
    image_feature_cache_bytes: int = 64_000_000
