"""What the sections of `benchmarks.gpu` share: the device, the sizes, the time, and one model at a time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import random_weights
from benchmarks.baseline import disable_stopping
from blip_space.engine.request import EngineConfig
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions

OPT, MT0, BLOOM = "opt-2.7b-random", "mt0-xl-random", "bloomz-7b-random"
LONG_QUESTION = " ".join(f"w{number}" for number in range(1, 41))
"""Forty words, each a token of the random models."""

TIMEOUT_SECONDS = 600.0

Row = dict[str, Any]
"""The cells of a row by the heading of their column."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The equality's `requests` are for each family and layout; `tokens` those of an answer whose
    steps are timed; `loop_users` those that the baseline serves."""

    requests: int = 24
    rows: tuple[int, ...] = (1, 16, 64)
    users: tuple[int, ...] = (1, 16, 64)
    loop_users: int = 2
    turns: int = 4
    answer_tokens: int = 32
    tokens: int = 64
    files: int = 256
    loop_files: int = 4
    caption_tokens: int = 20
    pictures: tuple[int, ...] = (1, 4, 16, 64)
    bandwidth_bytes: int = 1 << 32
    repeats: int = 20
    precisions: tuple[str, ...] = ("bf16", "int8", "int4", "fp16", "fp32")


SMALL = Sizes(
    requests=4,
    rows=(1, 3),
    users=(1, 3),
    loop_users=1,
    turns=2,
    answer_tokens=4,
    tokens=6,
    files=6,
    loop_files=1,
    caption_tokens=4,
    pictures=(1, 2),
    bandwidth_bytes=1 << 22,
    repeats=2,
    precisions=("bf16", "int4"),
)
"""Of a dry run."""


class Clock:
    """The time that is left."""

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._started = now()
        self._end = self._started + 60 * minutes

    @property
    def spent(self) -> float:
        """The seconds since the start."""
        return self._now() - self._started

    @property
    def is_over(self) -> bool:
        """Whether nothing more may begin."""
        return self._now() >= self._end


@dataclass(eq=False)
class Setup:
    """The device and the sizes of a run. A dry run uses tiny models in fp32."""

    device: str
    is_dry_run: bool = False
    sizes: Sizes = field(default_factory=Sizes)
    _built: dict[str, tuple[Any, Any, VisionLanguageModel]] = field(default_factory=dict)

    @property
    def settle_seconds(self) -> float:
        """How long an engine that captures nothing is idle."""
        return 0.0 if self.device == "cpu" else 1.0

    def model(self, name: str) -> tuple[Any, Any, VisionLanguageModel]:
        """transformers' model, its tokenizer and blip-space's model on the same weights, in bf16, which never
        stop. The last model stays in memory until another is asked for."""
        if name not in self._built:
            self.free()
            dtype = torch.float32 if self.is_dry_run else torch.bfloat16
            hf_model, tokenizer, model = random_weights.build(
                name, dtype=dtype, device=self.device, small=self.is_dry_run
            )
            never_stop(hf_model, model)
            self._built[name] = hf_model, tokenizer, model
        return self._built[name]

    def free(self) -> None:
        """Free the model."""
        self._built.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def config(self, users: int) -> EngineConfig:
        """An engine for that many users at once, in fixed slots also on a CPU."""
        return EngineConfig(max_batch_size=users, max_waiting=2 * users, timeout_seconds=TIMEOUT_SECONDS, slots=True)

    def options(self, tokens: int, **changes: Any) -> GenerationOptions:
        """Greedy, unless `changes` say otherwise."""
        return GenerationOptions(max_new_tokens=tokens, **changes)

    def allocated_gb(self) -> float | None:
        """The memory that torch has allocated on the GPU; None on a CPU."""
        return torch.cuda.memory_allocated(self.device) / 1e9 if self.device.startswith("cuda") else None


@dataclass(frozen=True)
class Section:
    """A table: its name for --only, its title, and the function that yields its rows."""

    name: str
    title: str
    measure: Callable[[Setup], Iterator[Row]]


def never_stop(hf_model: Any, model: VisionLanguageModel) -> None:
    """No token ends an answer, and every token is visible."""
    disable_stopping(hf_model, model)
    model.decode = words_of


def words_of(ids: Any) -> str:
    """The ids as words that the random models' tokenizer reads back as the same ids."""
    return " ".join(f"w{token}" for token in ids)


def ids_of(text: str) -> list[int]:
    """The ids of such a text."""
    return [int(word[1:]) for word in text.split()]
