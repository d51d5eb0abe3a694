"""What a family of vision-language models provides to the engine.

A family turns pixel values into image features, and a prompt with its features into embeddings with positions. Its
decoder is the language model, called the same way in every family. Depends on torch; must not import a family. Only one
thread at a time may compute with a model; any thread may use its preparation.
"""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from blip_space.models.footprint import weight_bytes
from blip_space.models.fused.operations import FusedDecoderStep, FusedStep, Operations, UnsupportedModelError
from blip_space.models.photo_encoder import PhotoEncoder
from blip_space.models.preparation import Preparation, Prompt
from blip_space.models.threads import ALL_THREADS, MIN_PARAMETERS
from blip_space.models.transfer import to_device


@dataclass(frozen=True)
class Precision:
    """A model's precision: its `name` in PRECISIONS, a torch device, and the reason for both (a `Reason` if known).

    `dtype` is the type of all computation, and of all weights that are not quantized.
    """

    name: str
    device: str
    reason: str
    dtype: torch.dtype = torch.float32

    @property
    def is_quantized(self) -> bool:
        """Whether the language model's layers are stored in fewer bits than they compute in."""
        return self.name in ("int8", "int4")


@dataclass(frozen=True, eq=False)
class Embedded:
    """A prompt as a decoder reads it: embeddings (length, hidden) and positions (axes, length), with one axis in most
    families. `next_position` is the position of the first new token, which is not the length if images share positions.
    `start` are the first tokens of the decoder in an encoder-decoder model."""

    embeddings: torch.Tensor
    positions: torch.Tensor
    next_position: int
    start: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.embeddings)

    def without_prefix(self, length: int) -> Embedded:
        """The part that is prefilled if the first `length` positions are cached."""
        return Embedded(self.embeddings[length:], self.positions[:, length:], self.next_position, self.start)


class Decoder(ABC):
    """A language model: the part that is called once per new token. Logits are float32."""

    axes = 1
    """Of how many numbers a position consists."""

    max_positions: int | None = None
    """The number of positions in the model's table of them; None where positions are computed."""

    device: torch.device
    dtype: torch.dtype

    def in_float32(self) -> AbstractContextManager[None]:
        """A context in which `forward` computes in float32, whatever the weights' dtype, but for the head's product."""
        return nullcontext()

    def fuse(self, operations: Operations) -> None:  # noqa: ARG002
        """Set `fused`. Raises `UnsupportedModelError` for a model that has no fused step."""
        raise UnsupportedModelError("this language model has no fused step")

    @abstractmethod
    def kv_bytes(self, positions: int) -> int:
        """The size in bytes of the keys and values of one sequence of `positions` positions."""


class DecoderOnly(Decoder):
    """A decoder-only language model: prompt and answer share one context window."""

    fused: FusedStep | None = None
    """A faster decode step over slots, after `fuse`."""

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
        """The logits (rows, vocabulary) of the token after the last position.

        Takes either `ids` (rows, new) or `embeddings` (rows, new, hidden), and `positions` (axes, rows, new). `mask` is
        (rows, cached + new) with 0 for padding, or the result of `slot_mask` or `prompt_mask`. `key_values` is a
        transformers cache, or None.
        """

    def prompt_mask(self, mask: torch.Tensor, new: int, *, is_padded: bool) -> torch.Tensor | None:  # noqa: ARG002
        """The mask that `forward` takes to prefill `new` positions, from a mask (rows, cached + new). `is_padded` is
        whether `mask` has zeros: if transformers looked for them, the host would wait for a GPU."""
        return mask

    @abstractmethod
    def slot_mask(self, lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        """The mask of one new position per row, which attends to the first `lengths` (rows,) positions and itself."""


class EncoderDecoder(Decoder):
    """An encoder-decoder model: the encoder reads the prompt, and the decoder attends to it and to its own answer."""

    fused: FusedDecoderStep | None = None
    """A faster decode step over slots, after `fuse`."""

    @abstractmethod
    def encode(self, embeddings: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The encoder's states (rows, length, hidden) of prompts that are padded on the right. `mask` is (rows,
        length), or the result of `prompt_mask`."""

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
        """The logits (rows, vocabulary) of the token after `ids` (rows, new), whose `positions` are (axes, rows, new).

        `mask` is (rows, cached + new) with 0 for padding, which is on the left, or the result of `slot_mask` or
        `start_mask`. `states` are the encoder's, or None if `cross_attention` holds their keys and values.
        `prompt_mask` is (rows, length), or the result of the method of that name or of `slot_mask`; with the latter
        each row attends to its own number of positions.
        """

    def prompt_mask(self, mask: torch.Tensor, *, is_padded: bool) -> torch.Tensor | None:  # noqa: ARG002
        """The mask of prompts for `encode` and `forward`, from a mask (rows, length); see `DecoderOnly.prompt_mask`."""
        return mask

    def start_mask(self, mask: torch.Tensor, *, is_padded: bool) -> torch.Tensor | None:  # noqa: ARG002
        """The mask that `forward` takes for the decoder's first tokens, from a mask (rows, new)."""
        return mask

    @abstractmethod
    def slot_mask(self, lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        """See `DecoderOnly.slot_mask`."""


class VisionLanguageModel(ABC):
    """One loaded model, made by `loader.load_model`.

    `stop_token_ids` and `stop_strings` end an answer. `threads` is the number of threads for decoding on a CPU.
    """

    decoder: DecoderOnly | EncoderDecoder
    photo_encoder: PhotoEncoder | None = None
    """A second image encoder, which the loader sets if the spec has one."""

    def __init__(self, hf_model: Any, preparation: Preparation, *, precision: Precision, stop: frozenset[int]) -> None:
        self.preparation = preparation
        self.spec = preparation.spec
        self.precision = precision
        self.stop_token_ids = stop
        self.stop_strings = preparation.style.stop_strings
        self.decode = preparation.decode
        self.threads = 1 if self.spec.parameters < MIN_PARAMETERS else ALL_THREADS
        self._hf_model = hf_model

    def encode_images(self, pixels: Sequence[Any]) -> list[torch.Tensor]:
        """The features of images, each (positions, hidden), in the language model's dtype and on its device."""
        return list(self.encode_pixels(self.load_pixels(pixels)))

    @abstractmethod
    def load_pixels(self, pixels: Sequence[Any]) -> torch.Tensor:
        """The pixel values of images as one batch (images, ...), on the vision encoder's device and in its dtype."""

    @abstractmethod
    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """The features (images, positions, hidden) of such a batch, from tensors only, so that it can be captured."""

    @abstractmethod
    def embed(self, prompt: Prompt, features: Sequence[torch.Tensor]) -> Embedded:
        """The prompt as the decoder reads it; `features` are the features of its images, in order."""

    @property
    def features_shape(self) -> tuple[int, int]:
        """The shape (positions, hidden) of every image's features, in a family that takes a photo encoder."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """The size of all weights in bytes, including the scales of quantized ones."""
        return weight_bytes(self._hf_model) + (self.photo_encoder.nbytes if self.photo_encoder else 0)

    def close(self) -> None:
        """Free the weights. The model cannot be used afterwards."""
        del self._hf_model, self.decoder
        gc.unfreeze()  # a server freezes its first model, whose cycles would stay
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def merge_image_features(
    prompt: Prompt, features: Sequence[torch.Tensor], table: torch.nn.Embedding, *, device: torch.device
) -> torch.Tensor:
    """A prompt's embeddings (length, hidden): its ids looked up in `table`, with the features at images' positions."""
    parts, start = list[torch.Tensor](), 0
    for image, own in zip(prompt.images, features, strict=True):
        parts += [*_look_up(prompt.ids[start : image.start], table, device), own]
        start = image.end
    return torch.cat([*parts, *_look_up(prompt.ids[start:], table, device)])


def check_ids(ids: Sequence[int], table: torch.nn.Embedding) -> None:
    """Raise `IndexError` for an id that `table` does not have, before a GPU looks it up: there it would end every
    later computation of the process."""
    rows = len(table.weight)  # an adapter's wrapper has no `num_embeddings`
    if ids and not 0 <= min(ids) <= max(ids) < rows:
        raise IndexError(f"a token from {min(ids)} to {max(ids)} is not among the {rows} of the model")


def check_positions(embedded: Embedded, max_new_tokens: int, limit: int | None) -> None:
    """Raise `IndexError` if an answer of `max_new_tokens` might need a position that the model does not have; see
    `check_ids`. The last token of an answer is not an input. `limit` is the number of positions, None for any."""
    last = embedded.next_position + max_new_tokens - 2
    if limit is not None and last >= limit:
        raise IndexError(f"position {last} is not among the {limit} of the model")


def _look_up(ids: Sequence[int], table: torch.nn.Embedding, device: torch.device) -> list[torch.Tensor]:
    check_ids(ids, table)
    return [table(to_device(ids, device))] if ids else []
