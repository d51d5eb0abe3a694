"""A model whose tokens are words, on the engine's real batch; it can be made to wait or to fail.

Like a `Blip2` it has a decoder that reads keys and values. Every answer is the words of its prompt, one by one, so a
test sees whose words are generated, and a row with the keys and values of another generates other words. A test may
hold back each token with `gate`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from blip_space.catalogue import ModelSpec
from blip_space.history import Turn
from blip_space.models.decoders import decode_mask
from blip_space.models.interface import DecoderOnly, Embedded
from blip_space.models.preparation import ImageFirstPreparation, ImageInfo, Prompt
from blip_space.options import GenerationOptions

VOCABULARY = 2_000
STOP = 0
QUERY_TOKENS = 4
SURE = 30.0
"""The logit of the next word."""


@dataclass(frozen=True)
class FakePrecision:
    """The fields of a precision that the engine reports."""

    name: str = "fp32"
    device: str = "cpu"
    reason: str = "a fake needs no more"


def spec(name: str = "fake", **changes: Any) -> ModelSpec:
    """The spec of a fake model that supports three languages."""
    fields = {
        "family": "blip2",
        "language_model_type": "mt5",
        "prompt_style": "mblip",
        "parameters": 1,
        "languages": ("en", "de", "ja"),
        **changes,
    }
    return ModelSpec(name, name, **fields)


class FakePreparation(ImageFirstPreparation):
    """A tokenizer whose tokens are words, and an image processor that ignores its image."""

    query_tokens = QUERY_TOKENS

    def __init__(self, model_spec: ModelSpec) -> None:
        self.spec = model_spec
        self.words = ["<stop>"]

    def encode(self, text: str) -> list[int]:
        return [self._number(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f" {self.words[number]}" for number in ids if number < len(self.words))

    def pixels(self, image: Any, options: Any) -> torch.Tensor:  # noqa: ARG002
        return torch.zeros(1, 1)

    def _number(self, word: str) -> int:
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)


class FakeDecoder(DecoderOnly):
    """The key of a position is its word, the value is 1 in a prompt; both decide the next word."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, model: FakeModel) -> None:
        self._model = model

    def forward(
        self,
        *,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        key_values: Any,
        ids: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if embeddings is None:
            assert ids is not None
            new = torch.stack([ids.float(), torch.zeros(ids.shape)], dim=-1)
        else:
            new = embeddings
        assert new.shape[1], "the logits are those of the last new position"
        keys, values = key_values.update(new[:, None, :, :1], new[:, None, :, 1:], 0)
        assert mask is not None
        visible = mask.bool()
        rows = [(keys[row, 0, used, 0], values[row, 0, used, 0]) for row, used in enumerate(visible)]
        if embeddings is None:
            self._model.note_decode(sum(bool(is_prompt.any()) for _, is_prompt in rows))
        assert positions[0, :, -1].tolist() == (visible.sum(1) - 1).tolist()
        # an unused slot has no prompt
        empty = torch.zeros(VOCABULARY)
        return torch.stack([self._model.next(*row) if row[1].any() else empty for row in rows])

    def slot_mask(self, lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        return decode_mask(lengths, capacity)

    def kv_bytes(self, positions: int) -> int:  # noqa: ARG002
        return self._model.bytes_per_sequence


class FakeModel(FakePreparation):
    """Answers with the words of its prompt. Counts encoded images; fails when it is used after `close`.

    `memory_rows`, where it is not 0, is how many rows it has memory for.
    """

    threads = 1
    nbytes = 1

    def __init__(self, model_spec: ModelSpec | None = None) -> None:
        super().__init__(model_spec or spec())
        self.preparation = self
        self.precision = FakePrecision()
        self.stop_token_ids, self.stop_strings = frozenset({STOP}), self.style.stop_strings
        self.decoder = FakeDecoder(self)
        self.encoded_images = 0
        self.encoder_batches = 0
        self.generated_words: list[str] = []
        self.largest_batch = 0
        self.decodes = 0
        self.memory_rows = 0
        self.bytes_per_sequence = 1
        self.closed = False
        self.gate: threading.Semaphore | None = None

    def encode_images(self, pixels: Sequence[Any]) -> list[torch.Tensor]:
        self.encoded_images += len(pixels)
        self.encoder_batches += 1
        return list(torch.zeros(len(pixels), QUERY_TOKENS, 2))

    def embed(self, prompt: Prompt, features: Sequence[torch.Tensor]) -> Embedded:
        assert not self.closed
        ids = prompt.ids[QUERY_TOKENS:]
        if any("unreadable" in self.words[number] for number in ids):
            raise RuntimeError("a bug in prefill")
        embeddings = torch.cat([*features, torch.tensor([[float(number), 1.0] for number in ids])])
        return Embedded(embeddings, torch.arange(len(embeddings))[None], len(embeddings))

    def note_decode(self, rows: int) -> None:
        assert not self.closed
        self.decodes += 1
        self.largest_batch = max(self.largest_batch, rows)
        if self.memory_rows and rows > self.memory_rows:
            raise RuntimeError("can't allocate memory")

    def next(self, words: torch.Tensor, is_prompt: torch.Tensor) -> torch.Tensor:
        """The logits of the next word, once the gate is open."""
        if self.gate is not None:
            self.gate.acquire()
        end = int(is_prompt.nonzero().max()) + 1  # the prompt of a follow-up includes an answer
        prompt, generated = words[QUERY_TOKENS:end].long().tolist(), len(words) - end
        number = prompt[generated] if generated < len(prompt) else STOP
        self.generated_words.append(self.words[number])
        logits = torch.zeros(VOCABULARY)
        logits[number] = SURE
        return logits * torch.nan if "explode" in self.words[number] else logits

    def close(self) -> None:
        self.closed = True


class SizedModel(FakeModel):
    """A model whose image positions depend on the image's size, and its features on an option; `infos` are the images
    that it prepared."""

    positions_depend_on_size = True

    def __init__(self) -> None:
        super().__init__()
        self.infos: list[ImageInfo] = []

    def feature_key(self, digest: str, options: GenerationOptions) -> str:
        return f"{digest} {options.num_beams}"

    def prepare(self, images: Sequence[ImageInfo], turns: Sequence[Turn], question: str, **how: Any) -> Prompt:
        self.infos += images
        return super().prepare(images, turns, question, **how)
