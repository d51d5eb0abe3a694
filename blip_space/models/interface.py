"""What a family of vision-language models owes the engine.

A family turns pixel values into image features, a prompt and its features into embeddings with positions, and hands
over a decoder: the language model, called the same way in every family. Depends on torch; must not import a family.
Only one thread at a time may compute with a model; its preparation may be used from any.
"""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from blip_space.models.footprint import weight_bytes
from blip_space.models.preparation import Preparation, Prompt
from blip_space.models.threads import ALL_THREADS, MIN_PARAMETERS
from blip_space.models.transfer import to_device


@dataclass(frozen=True)
class Precision:
    """Which numbers a model computes with: one of PRECISIONS, a torch device, and the part of a sentence that says why.

    `dtype` is what is computed in, and what everything that is not quantised is kept in.
    """

    name: str
    device: str
    reason: str
    dtype: torch.dtype = torch.float32

    @property
    def is_quantized(self) -> bool:
        """Whether the language model's layers are kept in fewer bits than they compute in."""
        return self.name in ("int8", "int4")


@dataclass(frozen=True, eq=False)
class Embedded:
    """A prompt as a decoder reads it: embeddings (length, hidden), and positions (axes, length), one axis in most
    families. `next_position` is that of the first new token, which is not the length where images share positions.
    `start` is what the decoder of an encoder-decoder reads first."""

    embeddings: torch.Tensor
    positions: torch.Tensor
    next_position: int
    start: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.embeddings)

    def without_prefix(self, length: int) -> Embedded:
        """What is left to be read once so many positions have been."""
        return Embedded(self.embeddings[length:], self.positions[:, length:], self.next_position, self.start)


class Decoder(ABC):
    """A language model: the part that is called once for every new token. Logits are float32."""

    axes = 1
    """How many numbers a position has."""

    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def kv_bytes(self, positions: int) -> int:
        """What the keys and values of one sequence of that length take, in bytes."""


class DecoderOnly(Decoder):
    """Prompt and answer share one window."""

    @abstractmethod
    def forward(
        self,
        *,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        key_values: Any,
        ids: torch.Tensor | None = None,
        embeddings: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The logits (rows, vocabulary) of what follows the last position.

        Either `ids` (rows, new) or `embeddings` (rows, new, hidden); `positions` (axes, rows, new). `mask` is what
        `slot_mask` or `prompt_mask` gives or (rows, read and new), with 0 for padding. `saved_row` is a transformers
        cache, or None.
        """

    def prompt_mask(self, mask: torch.Tensor, new: int, *, is_padded: bool) -> torch.Tensor | None:  # noqa: ARG002
        """What `forward` takes for a mask (rows, read and new) of so many new positions. transformers looks whether a
        mask hides anything, for which the host waits for a GPU; `is_padded` says whether it does."""
        return mask

    @abstractmethod
    def slot_mask(self, lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        """The mask of one new position a row, which reads the first `lengths` (rows,) and itself, which comes next."""


class EncoderDecoder(Decoder):
    """An encoder reads the prompt, and the decoder attends to it and to its own answer."""

    @abstractmethod
    def encode(self, embeddings: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The states (rows, length, hidden) of prompts that are padded on the right, with their mask: (rows, length),
        or what `prompt_mask` gives."""

    @abstractmethod
    def forward(
        self,
        ids: torch.Tensor,
        *,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        states: torch.Tensor | None,
        prompt_mask: torch.Tensor | None,
        self_attention: Any,
        cross_attention: Any,
    ) -> torch.Tensor:
        """The logits (rows, vocabulary) of what follows the last of `ids` (rows, new), which are at `positions` (axes,
        rows, new).

        `mask` is (rows, read and new) with 0 for padding, which is on the left, or what `slot_mask` or `start_mask`
        gives. `states` are the encoder's; None where `cross_attention` holds their keys and values. `prompt_mask` is
        (rows, length), or what the method gives, or what `slot_mask` does: then each row has that many positions.
        """

    def prompt_mask(self, mask: torch.Tensor, *, is_padded: bool) -> torch.Tensor | None:  # noqa: ARG002
        """What `encode` and `forward` take for a mask (rows, length) of prompts. transformers looks whether a mask
        hides anything, for which the host waits for a GPU; `is_padded` says whether it does."""
        return mask

    def start_mask(self, mask: torch.Tensor, *, is_padded: bool) -> torch.Tensor | None:  # noqa: ARG002
        """The same of a mask (rows, new) of what the decoder reads first."""
        return mask

    @abstractmethod
    def slot_mask(self, lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        """The same as of a decoder-only model."""


class VisionLanguageModel(ABC):
    """One loaded model; `loader.load` makes one.

    `stop` are the tokens that end an answer, `stop_strings` the texts that do, `threads` is how many threads its
    decoding wants on a CPU.
    """

    decoder: DecoderOnly | EncoderDecoder

    def __init__(self, hf_model: Any, preparation: Preparation, *, precision: Precision, stop: frozenset[int]) -> None:
        self.preparation = preparation
        self.spec = preparation.spec
        self.precision = precision
        self.stop_token_ids = stop
        self.stop_strings = preparation.style.stop_strings
        self.decode = preparation.decode
        self.threads = 1 if self.spec.parameters < MIN_PARAMETERS else ALL_THREADS
        self._hf_model = hf_model

    @abstractmethod
    def encode_images(self, pixels: Sequence[Any]) -> list[torch.Tensor]:
        """The features of images, each (positions, hidden), in the language model's type and on its device."""

    @abstractmethod
    def embed(self, prompt: Prompt, features: Sequence[torch.Tensor]) -> Embedded:
        """The prompt as the decoder reads it; `features` are those of its images, in their order."""

    @property
    def nbytes(self) -> int:
        """The size of all weights, in bytes, with the scales of those that are quantised."""
        return weight_bytes(self._hf_model)

    def close(self) -> None:
        """Free the weights. The model is of no use afterwards."""
        del self._hf_model, self.decoder
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def merge_image_features(
    prompt: Prompt, features: Sequence[torch.Tensor], table: torch.nn.Module, *, device: torch.device
) -> torch.Tensor:
    """The embeddings (length, hidden) of a prompt whose ids are looked up in `table`, images' features in between."""
    parts, start = list[torch.Tensor](), 0
    for image, own in zip(prompt.images, features, strict=True):
        parts += [*_look_up(prompt.ids[start : image.start], table, device), own]
        start = image.end
    return torch.cat([*parts, *_look_up(prompt.ids[start:], table, device)])


def _look_up(ids: Sequence[int], table: torch.nn.Module, device: torch.device) -> list[torch.Tensor]:
    return [table(to_device(ids, device))] if ids else []
