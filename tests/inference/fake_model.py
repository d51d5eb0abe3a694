"""A model that speaks words instead of tokens and can be made to wait.

Gives the engine exactly what a `Blip2` gives it, with nothing random and nothing slow: every answer is the words of
its prompt, one by one, so a test can see whose words went where. `gate` holds each token back until a test opens it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from blip_space.catalogue import ModelSpec
from blip_space.model.turns import TurnCache
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


@dataclass(frozen=True)
class FakePrompt:
    """A prompt is its words."""

    words: list[str]
    options: GenerationOptions


@dataclass(eq=False)
class FakeRow:
    """An answer that repeats its prompt."""

    prompt: FakePrompt
    ids: list[int] = field(default_factory=list)
    ended: bool = False
    fault: Exception | None = None


class FakeWriting:
    """Rows that get a word each a step."""

    def __init__(self, model: FakeModel) -> None:
        self.rows: list[FakeRow] = []
        self._model = model

    def join(self, prompts: Sequence[FakePrompt]) -> list[FakeRow]:
        if any("unreadable" in prompt.words for prompt in prompts):
            raise RuntimeError("a bug in reading")
        new = [FakeRow(prompt) for prompt in prompts]
        self.rows += new
        self._model.most_rows = max(self._model.most_rows, len(self.rows))
        self._model.started.set()
        self._write(new)
        return new

    def park(self, row: FakeRow) -> FakeRow:
        self.rows.remove(row)
        return row

    def resume(self, row: FakeRow) -> None:
        self.rows.append(row)

    def step(self) -> None:
        self.leave([row for row in self.rows if row.ended])
        if self._model.exhausted and len(self.rows) > self._model.exhausted:
            raise RuntimeError("can't allocate memory")
        self._write(self.rows)

    def leave(self, rows: Sequence[FakeRow]) -> None:
        self.rows = [row for row in self.rows if row not in rows]
        if rows:
            self._model.ended.set()

    def _write(self, rows: Sequence[FakeRow]) -> None:
        for row in rows:
            words = row.prompt.words[: row.prompt.options.max_new_tokens]
            word = words[len(row.ids)]
            if "explode" in word:
                row.fault, row.ended = RuntimeError("a bug"), True
                continue
            row.ids.append(self._model.say(word))
            row.ended = len(row.ids) >= len(words)


class FakeModel:
    """Answers with the words of its prompt. Counts what was encoded; notices when it is used after its end.

    `exhausted`, where it is not 0, is how many rows it has memory for.
    """

    query_tokens = 4

    def __init__(self, its_spec: ModelSpec) -> None:
        self.spec = its_spec
        self.precision = FakePrecision()
        self.words: list[str] = []
        self.turns = TurnCache(0)
        self.encoded = 0
        self.batches = 0
        self.tokens = 0
        self.most_rows = 0
        self.exhausted = 0
        self.fitting = 99
        self.closed = False
        self.gate: threading.Semaphore | None = None
        self.started = threading.Event()
        self.ended = threading.Event()

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def encode(self, pictures: Sequence[Any]) -> torch.Tensor:
        self.encoded += len(pictures)
        self.batches += 1
        return torch.zeros(len(pictures), self.query_tokens, 2)

    def prompt(self, prefix: torch.Tensor, text: str, options: GenerationOptions, **_: Any) -> FakePrompt:
        assert prefix.shape == (1, self.query_tokens, 2)
        return FakePrompt(text.split(), options)

    def writing(self) -> FakeWriting:
        assert not self.closed
        return FakeWriting(self)

    def search(self, prompts: Sequence[FakePrompt], *, should_stop: Callable[[], bool]) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in prompts]
        for step in range(max(len(prompt.words) for prompt in prompts)):
            if should_stop():
                break
            for ids, prompt in zip(found, prompts, strict=True):
                ids += [self.say(word) for word in prompt.words[step : step + 1]]
        return found

    def say(self, word: str) -> int:
        """The number of a word, once the gate lets it through."""
        if self.gate is not None:
            self.gate.acquire()
        self.tokens += 1
        self.words.append(word)
        return len(self.words) - 1

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[number] for number in ids)

    def rows_that_fit(self) -> int:
        return self.fitting

    def ran_out(self, error: BaseException) -> bool:
        return "memory" in str(error)

    def close(self) -> None:
        self.closed = True
