"""A model that speaks words instead of tokens and can be made to wait.

Gives the engine exactly what a `Blip2` gives it, with nothing random and nothing slow: every answer is the words of
its prompt, one by one, so a test can see whose words went where. `gate` holds each token back until a test opens it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from blip_space.catalogue import ModelSpec
from blip_space.options import GenerationOptions


@dataclass(frozen=True)
class FakePrecision:
    """What the engine shows of a precision."""

    name: str = "fp32"
    device: str = "cpu"
    reason: str = "a fake needs no more"


def spec(name: str = "fake", **changes: Any) -> ModelSpec:
    """A row for a model of words that speaks three languages."""
    given = {"family": "mt5", "style": "mblip", "parameters": 1, "languages": ("en", "de", "ja"), **changes}
    return ModelSpec(name, name, **given)


class FakeModel:
    """Answers with the words of its prompt. Counts what was encoded; notices when it is used after its end."""

    query_tokens = 4

    def __init__(self, its_spec: ModelSpec) -> None:
        self.spec = its_spec
        self.precision = FakePrecision()
        self.words: list[str] = []
        self.encoded = 0
        self.tokens = 0
        self.closed = False
        self.gate: threading.Semaphore | None = None
        self.started = threading.Event()
        self.ended = threading.Event()

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def encode(self, pictures: Sequence[Any]) -> torch.Tensor:
        self.encoded += len(pictures)
        return torch.zeros(len(pictures), self.query_tokens, 2)

    def stream(self, prefix: torch.Tensor, text: str, *, options: GenerationOptions) -> Iterator[int]:
        assert not self.closed
        assert prefix.shape == (1, self.query_tokens, 2)
        self.started.set()
        try:
            for word in text.split()[: options.max_new_tokens]:
                if "explode" in word:
                    raise RuntimeError("a bug")
                if self.gate is not None:
                    self.gate.acquire()
                self.tokens += 1
                self.words.append(word)
                yield len(self.words) - 1
        finally:
            self.ended.set()

    def search(
        self, prefix: torch.Tensor, text: str, *, options: GenerationOptions, should_stop: Callable[[], bool]
    ) -> list[int]:
        return [] if should_stop() else list(self.stream(prefix, text, options=options))

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[number] for number in ids)

    def close(self) -> None:
        self.closed = True
