"""The masks, padding and positions that a batch passes to its decoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blip_space.engine.batch import new_batch
from blip_space.engine.left_aligned import DecoderOnlyBatch, EncoderDecoderBatch
from blip_space.models.decoders import decode_mask
from blip_space.models.interface import DecoderOnly, Embedded, EncoderDecoder

AXES, HIDDEN, VOCABULARY = 3, 2, 5


class Recorder:
    """Records calls; every new position has a key."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        self.positions: list[torch.Tensor] = []
        self.padded: list[bool] = []
        self.ids: list[Any] = []

    def kv_bytes(self, positions: int) -> int:
        return positions

    def slot_mask(self, lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        return decode_mask(lengths, capacity)

    def record(self, inputs: torch.Tensor, positions: torch.Tensor, *caches: Any) -> torch.Tensor:
        self.positions.append(positions)
        for cache in caches:
            part = torch.ones(len(inputs), 1, inputs.shape[1], 1)
            cache.update(part, part, 0)
        return torch.zeros(len(inputs), VOCABULARY)


class RecordingDecoderOnly(Recorder, DecoderOnly):
    axes = AXES

    def forward(self, *, positions: Any, mask: Any, key_values: Any, ids: Any = None, embeddings: Any = None) -> Any:  # noqa: ARG002
        return self.record(ids if embeddings is None else embeddings, positions, key_values)

    def prompt_mask(self, mask: torch.Tensor, new: int, *, is_padded: bool) -> torch.Tensor | None:  # noqa: ARG002
        self.padded.append(is_padded)
        return mask


class RecordingEncoderDecoder(Recorder, EncoderDecoder):
    def encode(self, embeddings: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002
        return embeddings

    def forward(
        self, ids: Any, *, positions: Any, mask: Any, states: Any, prompt_mask: Any, self_attention: Any,  # noqa: ARG002
        cross_attention: Any,
    ) -> Any:  # fmt: skip
        self.ids.append((ids.tolist(), mask.tolist()))
        if states is not None:
            part = states[:, None, :, :1]
            cross_attention.update(part, part, 0)
        return self.record(ids, positions, self_attention)

    def prompt_mask(self, mask: torch.Tensor, *, is_padded: bool) -> torch.Tensor | None:
        self.padded.append(is_padded)
        return mask

    def start_mask(self, mask: torch.Tensor, *, is_padded: bool) -> torch.Tensor | None:
        self.padded.append(is_padded)
        return mask


def prompt(length: int, next_position: int = 0, start: tuple[int, ...] = ()) -> Embedded:
    positions = torch.arange(length).expand(AXES, -1)
    return Embedded(torch.ones(length, HIDDEN), positions, next_position or length, start)


@pytest.mark.parametrize("slots", [False, True])
def test_the_positions_of_an_answer_follow_the_next_position_of_its_prompt(slots: bool) -> None:
    """Not its length, since an image may share positions; whichever rows are added and removed."""
    decoder = RecordingDecoderOnly()
    batch = new_batch(decoder, slots=slots)
    batch.prefill([prompt(3, 9), prompt(3, 4)])
    batch.decode([1, 1])
    saved = batch.copy(0)
    batch.select([1, 1])
    batch.merge(saved)
    batch.decode([1, 1, 1])
    assert decoder.positions[-1].shape[0] == AXES
    assert decoder.positions[-2][:, :2, 0].tolist() == [[9, 4]] * AXES
    assert sorted(decoder.positions[-1][0, :3, 0].tolist()) == [5, 5, 10]


@pytest.mark.parametrize(
    ("prefixes", "new", "is_padded"), [((0, 0), (3, 3), False), ((0, 0), (3, 4), True), ((2, 4), (3, 3), True)]
)
def test_a_decoder_only_model_gets_whether_there_is_padding(
    prefixes: tuple[int, int], new: tuple[int, int], is_padded: bool
) -> None:
    cached = [[(torch.ones(1, length, 1), torch.ones(1, length, 1))] if length else None for length in prefixes]
    decoder = RecordingDecoderOnly()
    DecoderOnlyBatch(decoder).prefill([prompt(length) for length in new], cached)
    assert decoder.padded == [is_padded]


@pytest.mark.parametrize(("lengths", "is_padded"), [((3, 3), False), ((3, 4), True)])
def test_an_encoder_decoder_gets_whether_there_is_padding(lengths: tuple[int, int], is_padded: bool) -> None:
    decoder = RecordingEncoderDecoder()
    batch = EncoderDecoderBatch(decoder)
    batch.prefill([prompt(length, start=(1,)) for length in lengths])
    assert decoder.padded == [is_padded, False]
    cache_bytes = 2 * 2 * 64 * 4  # keys and values, rows, a block of positions, float32
    assert batch.nbytes == 2 * cache_bytes  # of the answer and of the prompt


def test_start_tokens_are_left_aligned() -> None:
    decoder = RecordingEncoderDecoder()
    EncoderDecoderBatch(decoder).prefill([prompt(3, start=(7,)), prompt(3, start=(8, 9))])
    assert decoder.padded == [False, True]
    assert decoder.ids == [([[0, 7], [8, 9]], [[0, 1], [1, 1]])]
    assert decoder.positions[0].tolist() == [[[0, 0], [0, 1]]]
