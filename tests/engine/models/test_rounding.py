"""Fused steps of 16-bit models round as transformers' do, and whatever else is wrong in one is found nevertheless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from blip_space.engine.batch import new_batch
from blip_space.engine.step_graphs import StepGraphs
from blip_space.models.decoders import CausalDecoder, T5Decoder
from blip_space.models.fused.operations import Cached, Norm, Projected, Scores
from blip_space.models.interface import Embedded
from tests.engine.fake_graphs import RecordingBackend
from tests.models.fused.reference_operations import ReferenceOperations
from tests.models.small_decoders import DECODER_ONLY, ENCODER_DECODER, WIDTH

NAMES = (*DECODER_ONLY, *ENCODER_DECODER)


def make_decoder(name: str, dtype: torch.dtype, seed: int) -> Any:
    """With random norms and biases, too."""
    torch.manual_seed(seed)
    model = (DECODER_ONLY | ENCODER_DECODER)[name]()
    for parameter in model.eval().parameters():
        parameter.data.normal_(mean=0.05, std=0.3)
    model = model.to(dtype)
    if name in ENCODER_DECODER:
        return T5Decoder(model)
    return CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=name == "bloom")


def status_with(decoder: Any, operations: ReferenceOperations) -> str:
    """The state of the graphs after the warm-up, which compares two of them."""
    decoder.fuse(operations)
    graphs = StepGraphs(RecordingBackend(), decoder.dtype, 10**8)
    start = (0,) if isinstance(decoder, T5Decoder) else ()
    embeddings = torch.randn(9, WIDTH, dtype=decoder.dtype)
    new_batch(decoder, slots=True, graphs=graphs).warm_up(Embedded(embeddings, torch.arange(9)[None], 9, start))
    return graphs.status


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_fused_step_is_as_far_from_float32_as_transformers(name: str, dtype: torch.dtype) -> None:
    if dtype == torch.float16 and name in ENCODER_DECODER:
        pytest.skip("T5 has no fused step in fp16")
    for seed in range(3):
        assert status_with(make_decoder(name, dtype, seed), ReferenceOperations()) == "on, 2 captured"


class WithoutBias(ReferenceOperations):
    def attend(self, projected: Projected, cached: Cached, scores: Scores) -> torch.Tensor:
        return super().attend(replace(projected, value_bias=None), cached, scores)


class OtherScale(ReferenceOperations):
    def attend(self, projected: Projected, cached: Cached, scores: Scores) -> torch.Tensor:
        return super().attend(projected, cached, replace(scores, scale=0.5 * scores.scale))


class OtherPositions(ReferenceOperations):
    """Of ALiBi's and T5's biases, and of rotary embeddings."""

    def attend(self, projected: Projected, cached: Cached, scores: Scores) -> torch.Tensor:
        slopes, positions = scores.slopes, scores.positions
        rotary = None if scores.rotary is None else (scores.rotary[0], -scores.rotary[1])
        scores = replace(scores, slopes=slopes if slopes is None else slopes * 4, rotary=rotary)
        return super().attend(
            projected, cached, replace(scores, positions=positions if positions is None else positions + 1)
        )


class OneKeyLess(ReferenceOperations):
    """The last position before the new one is not attended to."""

    def attend(self, projected: Projected, cached: Cached, scores: Scores) -> torch.Tensor:
        keys = cached.keys.clone()
        rows = torch.arange(len(cached.lengths))
        keys[rows, :, (cached.lengths - 1).clamp(min=0)] = torch.zeros_like(keys[rows, :, 0])
        output = super().attend(projected, Cached(keys, cached.values, cached.lengths), scores)
        cached.keys[rows, :, cached.lengths] = keys[rows, :, cached.lengths]
        return output


class WithoutSum(ReferenceOperations):
    """Of the layer before."""

    def add_norm(
        self, states: torch.Tensor, addend: torch.Tensor | None, bias: torch.Tensor | None, norm: Norm
    ) -> torch.Tensor:
        return super().add_norm(states, addend if addend is None else addend * 0.9, bias, norm)


class OtherActivation(ReferenceOperations):
    def activate(self, states: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
        return super().activate(states, bias, "silu" if activation == "relu" else "relu")

    def gate(self, states: torch.Tensor, activation: str) -> torch.Tensor:
        return super().gate(states, "gelu" if activation == "silu" else "silu")


WRONG_STEPS: dict[Callable[[], ReferenceOperations], tuple[str, ...]] = {
    WithoutBias: ("opt", "bloom"),
    OtherScale: NAMES,
    OtherPositions: ("bloom", "llama", "t5", "mt5"),
    OneKeyLess: NAMES,
    WithoutSum: NAMES,
    OtherActivation: NAMES,
}


@pytest.mark.parametrize(("wrong", "name"), [(wrong, name) for wrong, names in WRONG_STEPS.items() for name in names])
def test_a_wrong_step_of_a_16_bit_model_is_not_captured(wrong: Callable[[], ReferenceOperations], name: str) -> None:
    for seed in range(3):
        status = status_with(make_decoder(name, torch.bfloat16, seed), wrong())
        assert "on, 2 captured, not fused: the " in status
        assert "from those in float32" in status
