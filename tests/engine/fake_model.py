"""A model that generates words in place of tokens, over the engine's real batch, and can be made to wait or to fail.

It gives the engine what a `Blip2` gives it: a language model that reads its past from keys and values. Every answer is
the words of its prompt, one by one, so a test sees whose words went where, and a row that is given another's keys and
values says so. `gate` holds each token back until a test lets it go.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from blip_space.catalogue import ModelSpec

VOCABULARY = 2_000
STOP = 0
QUERY_TOKENS = 4
SURE = 30.0
"""The score of the one word that comes next."""


@dataclass(frozen=True)
class FakePrecision:
    """What the engine shows of a precision."""

    name: str = "fp32"
    device: str = "cpu"
    reason: str = "a fake needs no more"


def spec(name: str = "fake", **changes: Any) -> ModelSpec:
    """A row for a model of words that supports three languages."""
    given = {"family": "mt5", "style": "mblip", "parameters": 1, "languages": ("en", "de", "ja"), **changes}
    return ModelSpec(name, name, **given)


class FakePreparation:
    """The tokenizer, of which every word is a token, and the image processor, which takes a picture as it is."""

    query_tokens = QUERY_TOKENS

    def __init__(self, its_spec: ModelSpec) -> None:
        self.spec = its_spec
        self.words = ["<stop>"]

    def encode(self, text: str) -> list[int]:
        return [self._number(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f" {self.words[number]}" for number in ids if number < len(self.words))

    def pixels(self, pictures: Sequence[Any]) -> torch.Tensor:
        return torch.zeros(len(pictures), 1)

    def _number(self, word: str) -> int:
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)


class FakeLanguageModel:
    """A key of a position is its word, a value says whether it is of the prompt; both decide which word is next."""

    config = SimpleNamespace(is_encoder_decoder=False)
    device = torch.device("cpu")

    def __init__(self, model: FakeModel) -> None:
        self._model = model

    def __call__(
        self,
        *,
        attention_mask: torch.Tensor,
        past_key_values: Any,
        inputs_embeds: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        if inputs_embeds is None:
            assert input_ids is not None
            self._model.note_decode(len(input_ids))
            own = torch.stack([input_ids.float(), torch.zeros(input_ids.shape)], dim=-1)
        else:
            own = inputs_embeds
        assert own.shape[1], "the scores of what comes next are those of the last position that is read"
        keys, values = past_key_values.update(own[:, None, :, :1], own[:, None, :, 1:], 0)
        read = attention_mask.bool()
        logits = [
            self._model.next(keys[row, 0, read[row], 0], values[row, 0, read[row], 0]) for row in range(len(read))
        ]
        return SimpleNamespace(logits=torch.stack(logits)[:, None])


class FakeModel(FakePreparation):
    """Answers with the words of its prompt. Counts what was encoded; notices when it is used after its end.

    `exhausted`, where it is not 0, is how many rows it has memory for.
    """

    threads = 1
    nbytes = 1

    def __init__(self, its_spec: ModelSpec | None = None) -> None:
        super().__init__(its_spec or spec())
        self.precision = FakePrecision()
        self.stop = frozenset({STOP})
        self.language_model = FakeLanguageModel(self)
        self.encoded = 0
        self.batches = 0
        self.said: list[str] = []
        self.most_rows = 0
        self.exhausted = 0
        self.fitting = 99
        self.closed = False
        self.gate: threading.Semaphore | None = None

    def max_batch_size(self) -> int:
        return self.fitting

    def encode_pixels(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        self.encoded += len(parts)
        self.batches += 1
        return torch.zeros(len(parts), QUERY_TOKENS, 2)

    def embed(self, features: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        assert not self.closed
        if any("unreadable" in self.words[number] for number in ids):
            raise RuntimeError("a bug in reading")
        return torch.cat([features, torch.tensor([[float(number), 1.0] for number in ids])])

    def expect_many(self) -> None:
        """It has one processor."""

    def note_decode(self, rows: int) -> None:
        assert not self.closed
        self.most_rows = max(self.most_rows, rows)
        if self.exhausted and rows > self.exhausted:
            raise RuntimeError("can't allocate memory")

    def next(self, words: torch.Tensor, is_prompt: torch.Tensor) -> torch.Tensor:
        """The scores of what follows, once the gate lets it through."""
        if self.gate is not None:
            self.gate.acquire()
        end = int(is_prompt.nonzero().max()) + 1  # an answer that is gone on from is part of the prompt
        prompt, generated = words[QUERY_TOKENS:end].long().tolist(), len(words) - end
        number = prompt[generated] if generated < len(prompt) else STOP
        self.said.append(self.words[number])
        scores = torch.zeros(VOCABULARY)
        scores[number] = SURE
        return scores * torch.nan if "explode" in self.words[number] else scores

    def close(self) -> None:
        self.closed = True
