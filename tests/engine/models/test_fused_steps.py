"""Graphs of fused steps compute what left-aligned rows do; where they do not, transformers' forward is captured."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from blip_space.engine import step_graphs
from blip_space.engine.cuda_graphs import fuse
from blip_space.engine.graph_comparison import PROOF_STEPS
from blip_space.models.families.blip2 import Blip2
from blip_space.models.fused.operations import Cached, Projected, Scores, UnsupportedModelError
from blip_space.models.interface import Embedded
from tests.engine.fake_graphs import recording_graphs
from tests.engine.models.both_batches import BothBatches, lengthened
from tests.lost_device import accelerator_error
from tests.models.fused.reference_operations import ReferenceOperations

STEPS = 60


@pytest.fixture
def fused(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> Blip2:
    """The model with a fused step by plain torch."""
    monkeypatch.setattr(model.decoder, "fused", None, raising=False)
    model.decoder.fuse(ReferenceOperations())
    return model


@pytest.fixture
def forwards(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each forward pass of transformers over slots."""
    rows, plain = list[int](), model.decoder.slot_mask

    def slot_mask(lengths: torch.Tensor, capacity: int) -> torch.Tensor:
        rows.append(len(lengths))
        return plain(lengths, capacity)

    monkeypatch.setattr(model.decoder, "slot_mask", slot_mask)
    return rows


@pytest.mark.parametrize("seed", [0, 1])
def test_replays_of_fused_steps_have_the_logits_of_left_aligned_rows(
    fused: Blip2, prompts: list[Embedded], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_graphs, "MIN_EAGER_STEPS", 2)
    monkeypatch.setattr(step_graphs, "MAX_CAPTURES", 9)
    (graphs, backend), rng = recording_graphs(), random.Random(seed)
    both = BothBatches(fused, graphs)
    both.slots.warm_up(prompts[0])
    for _ in range(STEPS):
        both.churn(rng, prompts, select=0.3, preempt=0.1, resume=0.2, add=0.3)
        if both.tokens:
            both.decode(rng)
        if not both.tokens and rng.random() < 0.5:
            both.slots.capture_pending()
    assert graphs.status.startswith("on, ")
    assert "not fused" not in graphs.status
    assert backend.captures > 4
    assert backend.replays > STEPS // 3


def test_a_replay_of_a_fused_step_does_not_pass_transformers(
    fused: Blip2, prompts: list[Embedded], forwards: list[int]
) -> None:
    graphs, backend = recording_graphs()
    both = BothBatches(fused, graphs)
    both.slots.warm_up(prompts[0])
    assert len(forwards) == 2 * step_comparisons(fused)
    both.prefill([lengthened(prompts[-1])], [1])
    forwards.clear()
    before = backend.replays
    both.decode(random.Random(0))
    assert backend.replays == before + 1
    assert forwards == []


def step_comparisons(model: Blip2) -> int:
    """How many masks the eager steps make with which one graph is compared."""
    return PROOF_STEPS * (1 if model.spec.decoder_only else 2)


class WrongLogits(ReferenceOperations):
    """Of all layers but the first."""

    def add_norm(self, *args: Any) -> torch.Tensor:
        return super().add_norm(*args) * 1.5


class Unwritten(ReferenceOperations):
    """The new key and value are attended to, and then lost."""

    def attend(self, projected: Projected, cached: Cached, scores: Scores) -> torch.Tensor:
        copies = Cached(cached.keys.clone(), cached.values.clone(), cached.lengths)
        return super().attend(projected, copies, scores)


class Raises(ReferenceOperations):
    def product(self, *_: Any) -> torch.Tensor:
        raise RuntimeError("Failed to find C compiler.\nSet CC.")


FAILURES: dict[str, tuple[Callable[[], ReferenceOperations], str]] = {
    "logits": (WrongLogits, "the logits of a graph differ from the eager ones by"),
    "unwritten": (Unwritten, "the keys and values of a graph differ by"),
    "raises": (Raises, "RuntimeError: Failed to find C compiler."),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_where_a_fused_step_fails_transformers_forward_is_captured(
    model: Blip2,
    prompts: list[Embedded],
    failure: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(model.decoder, "fused", None, raising=False)
    operations, reason = FAILURES[failure]
    model.decoder.fuse(operations())
    graphs, backend = recording_graphs()
    both = BothBatches(model, graphs)
    with caplog.at_level(logging.WARNING):
        both.slots.warm_up(prompts[0])
    assert graphs.status.startswith(f"on, 2 captured, not fused: {reason}")
    assert len(caplog.records) == 1
    both.prefill([lengthened(prompts[-1])], [1])
    before = backend.replays
    both.decode(random.Random(0))
    assert backend.replays == before + 1


class NamedDecoder:
    """Of a device that is only named, so that nothing computes there."""

    device, fused = torch.device("cuda"), False
    error: Exception | None = None

    def fuse(self, _: Any) -> None:
        if self.error:
            raise self.error
        self.fused = True


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A decoder that can be fused."""
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr("blip_space.models.fused.triton_operations.TritonOperations", lambda _: None)
    return NamedDecoder()


def test_decoders_are_fused_only_for_graphs_on_cuda(named: Any) -> None:
    graphs, _ = recording_graphs()
    fuse(named, graphs, enabled=True)
    assert named.fused
    assert graphs.status == "on, 0 captured"
    for device, is_on in (("cpu", True), ("cuda", False)):
        other: Any = NamedDecoder()
        other.device = torch.device(device)
        if not is_on:
            graphs.turn_off("no")
        fuse(other, graphs, enabled=True)
        assert not other.fused


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnsupportedModelError("its norms come late"), "its norms come late"),
        (torch.OutOfMemoryError("none\nleft"), "OutOfMemoryError: none"),
        (None, "BLIP_SPACE_FUSED is 0"),
    ],
)
def test_a_decoder_that_is_not_fused_has_a_reason(named: Any, error: Exception | None, reason: str) -> None:
    (graphs, _), named.error = recording_graphs(), error
    fuse(named, graphs, enabled=error is not None)
    assert not named.fused
    assert graphs.status == f"on, 0 captured, not fused: {reason}"


def test_a_lost_device_is_not_taken_for_an_unsupported_model(named: Any) -> None:
    (graphs, _), named.error = recording_graphs(), accelerator_error()
    with pytest.raises(RuntimeError):
        fuse(named, graphs, enabled=True)


def test_without_triton_steps_are_not_fused(named: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, _ = recording_graphs()
    monkeypatch.setitem(sys.modules, "blip_space.models.fused.triton_operations", None)
    fuse(named, graphs, enabled=True)
    assert "not fused: ModuleNotFoundError" in graphs.status
