"""Replays compute what eager steps compute, whichever rows are added and removed; graphs that do not are off."""

from __future__ import annotations

import logging
import random

import pytest
import torch
from PIL import Image

from blip_space.engine import model_runner, step_graphs
from blip_space.engine.batch import new_batch
from blip_space.engine.step_graphs import StepGraphs
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Embedded
from blip_space.options import GenerationOptions
from tests.engine.fake_graphs import RecordingBackend, recording_graphs
from tests.engine.models.both_batches import BothBatches, lengthened
from tests.engine.models.driving import add, finish, generate_alone, make_core, make_request

pytestmark = pytest.mark.usefixtures("recorded")

STEPS = 120


def graph_batches(model: Blip2, limit_bytes: int = 10**8) -> tuple[BothBatches, StepGraphs, RecordingBackend]:
    """A left-aligned batch, and one in slots with graphs."""
    graphs, backend = recording_graphs(limit_bytes)
    return BothBatches(model, graphs), graphs, backend


def count_replays(both: BothBatches, backend: RecordingBackend, rng: random.Random, steps: int) -> int:
    """How many of these steps are replays; all have the logits of the left-aligned batch."""
    before = backend.replays
    for _ in range(steps):
        both.decode(rng)
    return backend.replays - before


@pytest.mark.parametrize("limit_bytes", [10**8, 400_000], ids=["ample", "scarce"])
@pytest.mark.parametrize("seed", [0, 1])
def test_replays_have_the_logits_of_left_aligned_rows(
    model: Blip2,
    prompts: list[Embedded],
    seed: int,
    limit_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Captured between steps and in idle time, on buffers that grow, shrink, are freed and are used again."""
    monkeypatch.setattr(step_graphs, "MIN_EAGER_STEPS", 2)
    monkeypatch.setattr(step_graphs, "MAX_CAPTURES", 9)
    rng = random.Random(seed)
    both, graphs, backend = graph_batches(model, limit_bytes)
    both.slots.warm_up(prompts[0])
    for _ in range(STEPS):
        both.churn(rng, prompts, select=0.3, preempt=0.1, resume=0.2, add=0.3)
        if len(both.tokens) > 1 and rng.random() < 0.1:
            for batch in both.pair:
                batch.reorder([(0, 0)])
        if both.tokens:
            both.decode(rng)
        if not both.tokens and rng.random() < 0.5:
            both.slots.capture_pending()
        assert graphs.nbytes <= limit_bytes
    assert graphs.is_on, graphs.status
    assert backend.captures > 5
    assert backend.replays > (STEPS // 2 if limit_bytes > 10**6 else 0)


def test_the_first_token_of_a_lone_row_is_a_replay_after_the_warm_up(model: Blip2, prompts: list[Embedded]) -> None:
    both, graphs, backend = graph_batches(model)
    both.slots.warm_up(prompts[0])
    assert graphs.status == "on, 2 captured"
    assert both.slots.nbytes == 0
    rng, long = random.Random(1), lengthened(prompts[-1])
    for prompt in (long, long):
        both.prefill([prompt], [1])
        assert count_replays(both, backend, rng, 5) == 5
        both.select([])
    assert backend.captures == 2


def test_a_missing_graph_is_captured_in_idle_time(model: Blip2, prompts: list[Embedded]) -> None:
    both, graphs, backend = graph_batches(model)
    both.prefill(prompts[:3], [1, 1, 1])
    assert count_replays(both, backend, random.Random(2), 5) == 0
    assert not both.slots.capture_pending()  # there are rows
    both.select([])
    assert both.slots.capture_pending()
    assert not both.slots.capture_pending()
    assert graphs.status == "on, 1 captured"
    both.prefill(prompts[:3], [1, 1, 1])
    assert count_replays(both, backend, random.Random(2), 5) == 5


def test_a_graph_is_captured_between_steps_if_there_is_no_idle_time(
    model: Blip2,
    prompts: list[Embedded],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not in the first step after rows were added; the rows' keys and values stay what they were."""
    monkeypatch.setattr(step_graphs, "MIN_EAGER_STEPS", 4)
    (both, _, backend), rng = graph_batches(model), random.Random(3)
    both.prefill(prompts[:3], [1, 1, 1])
    assert count_replays(both, backend, rng, 4) == 0
    both.select([0, 1])
    both.prefill(prompts[:1], [1])
    assert count_replays(both, backend, rng, 1) == backend.captures == 0
    both.decode(rng)
    assert backend.captures == 1
    assert count_replays(both, backend, rng, 20) == 20


def test_buffers_that_grew_have_no_graph_of_the_old_ones(model: Blip2, prompts: list[Embedded]) -> None:
    both, graphs, backend = graph_batches(model)
    both.slots.warm_up(prompts[0])
    rng = random.Random(4)
    both.prefill([lengthened(prompts[-1])], [1])
    assert count_replays(both, backend, rng, 1) == 1
    both.prefill(prompts[:1], [1])
    assert count_replays(both, backend, rng, 3) == 0
    both.select([0])
    assert count_replays(both, backend, rng, 3) == 0  # of buffers of two slots
    assert graphs.is_on


def test_logits_are_overwritten_by_the_next_step(model: Blip2, prompts: list[Embedded]) -> None:
    """So a caller that needs them longer has to copy them."""
    graphs, _ = recording_graphs()
    batch = new_batch(model.decoder, slots=True, graphs=graphs)
    batch.warm_up(prompts[0])
    batch.prefill([lengthened(prompts[-1])])
    assert batch.decode([5]) is batch.decode([6])


def too_large(logits: torch.Tensor) -> None:
    logits[:, 0] += 1 + logits.abs().max()


def not_finite(logits: torch.Tensor) -> None:
    logits.fill_(torch.nan)


def raised_after(cause: Exception) -> Exception:
    """What `torch.cuda.graph` raises when its body raised."""
    error = RuntimeError("operation failed due to a previous error during capture")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"corrupt": too_large}, "the logits of a graph differ from the eager ones by"),
        ({"corrupt": not_finite}, "the logits of a graph differ from the eager ones by nan"),
        ({"error": RuntimeError("operation not permitted\nwhen capturing")}, "RuntimeError: operation not permitted"),
        ({"error": raised_after(ValueError("first"))}, "ValueError: first"),
        ({"replay_error": ValueError("no")}, "ValueError: no"),
    ],
)
def test_graphs_that_differ_or_raise_are_off_and_steps_are_eager(
    model: Blip2,
    prompts: list[Embedded],
    behaviour: dict[str, object],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    both, graphs, backend = graph_batches(model)
    vars(backend).update(behaviour)
    with caplog.at_level(logging.WARNING):
        both.slots.warm_up(prompts[0])
    assert graphs.status.startswith(f"off: {reason}")
    assert len(caplog.records) == 1
    assert reason in caplog.text
    both.prefill(prompts[:2], [1, 1])
    backend.replays = 0
    assert count_replays(both, backend, random.Random(5), 5) == 0
    both.select([])
    assert not both.slots.capture_pending()
    assert graphs.nbytes == 0


def test_a_replay_that_raises_in_use_is_repeated_eagerly(model: Blip2, prompts: list[Embedded]) -> None:
    both, graphs, backend = graph_batches(model)
    both.slots.warm_up(prompts[0])
    rng = random.Random(6)
    both.prefill([lengthened(prompts[-1])], [1])
    assert count_replays(both, backend, rng, 2) == 2
    backend.replay_error = RuntimeError("later")
    assert count_replays(both, backend, rng, 4) == 0
    assert graphs.status == "off: RuntimeError: later"
    assert graphs.nbytes == 0


def test_answers_of_a_core_by_graphs_equal_those_alone(
    model: Blip2, two_images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy, sampled and by beams; the core captures when it is made, and when nothing runs."""
    graphs, backend = recording_graphs()
    options = [GenerationOptions(max_new_tokens=8 + number, temperature=number / 4, seed=number) for number in range(4)]
    options[1] = GenerationOptions(max_new_tokens=9, quality="best")
    requests = [
        make_request(model, image, "how many cats are there?", each)
        for each, image in zip(options, two_images * 2, strict=True)
    ]
    alone = [generate_alone(model, request) for request in requests]
    monkeypatch.setattr(model_runner, "new_step_graphs", lambda *_, **__: graphs)
    core = make_core(model, slots=True)
    assert core.decode_mode == ("graphs", "on, 2 captured")
    for _ in range(2):
        sequences = [add(core, request) for request in requests]
        graphs.request((2, ((2, 64),) * (1 if model.spec.decoder_only else 2)))
        assert not core.capture_pending()  # a request waits
        finish(core)
        assert [sequence.ids for sequence in sequences] == alone
        while core.capture_pending():
            pass
    replays = backend.replays
    sequences = [add(core, request) for request in requests]
    finish(core)
    assert [sequence.ids for sequence in sequences] == alone
    assert backend.replays - replays >= 8
    assert core.cached_bytes >= graphs.nbytes > 0
    core.abort_all()
    assert graphs.nbytes == 0
    assert core.decode_mode == ("eager", "on, 0 captured")


def test_a_warm_up_that_fails_leaves_an_eager_core(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, _ = recording_graphs()
    monkeypatch.setattr(model_runner, "new_step_graphs", lambda *_, **__: graphs)
    monkeypatch.setattr(model_runner, "WARM_UP_IDS", (10**9,))
    assert make_core(model, slots=True).decode_mode[1].startswith("off: IndexError")


def test_without_cuda_there_are_no_graphs(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert make_core(model, slots=True).decode_mode == ("eager", "off: CUDA graphs need a CUDA GPU")
    assert make_core(model, slots=True, graphs=False).decode_mode == ("eager", "off: BLIP_SPACE_GRAPHS is 0")
