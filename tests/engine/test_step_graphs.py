"""Which graphs are kept, captured and believed, without a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch

from blip_space.engine import graph_backend, step_graphs
from blip_space.engine.graph_comparison import _varied, difference
from blip_space.engine.slot_cache import SlotBuffers, SlotCache
from blip_space.engine.step_graphs import StepGraphs
from tests.engine.fake_graphs import CAPTURED_BYTES, recording_graphs
from tests.lost_device import lose_device

BUFFER_BYTES = 2 * 2 * 64 * 4 * 4
"""Keys and values of one slot: heads, positions and width in float32."""


def make_buffers(slots: int = 1) -> SlotBuffers:
    return SlotBuffers(SlotCache(), slots, 64, torch.zeros(2, slots, 2, 64, 4))


def columns(count: int) -> list[list[int]]:
    return [[5] * count, [2] * count, [0] * count, [2] * count, list(range(count))]


def capture(graphs: StepGraphs, buffers: SlotBuffers, count: int = 1) -> None:
    graphs.capture(columns(count), [buffers], lambda inputs: inputs.T.float())


def replay(graphs: StepGraphs, buffers: SlotBuffers, count: int = 1) -> Sequence[torch.Tensor] | None:
    return graphs.replay(columns(count), [buffers])


def test_a_replay_has_the_numbers_of_its_step_in_the_same_tensors() -> None:
    graphs, buffers = recording_graphs()[0], make_buffers(2)
    capture(graphs, buffers, 2)
    first = replay(graphs, buffers, 2)
    assert first
    second = graphs.replay([[7, 8], [3, 4], [0, 0], [9, 9], [1, 0]], [buffers])
    assert second
    assert first[0] is second[0]
    assert first[1] is second[1]
    assert second[1].tolist() == [[7, 3, 0, 9, 1], [8, 4, 0, 9, 0]]


def test_a_lost_gpu_is_no_reason_to_decode_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error was logged as a reason to turn graphs off, and an idle server went on as if it could answer."""
    graphs, buffers = recording_graphs()[0], make_buffers()
    capture(graphs, buffers)
    monkeypatch.setattr(step_graphs, "copy_to_device", lose_device)
    with pytest.raises(RuntimeError, match="device-side assert"):
        replay(graphs, buffers)
    with pytest.raises(RuntimeError, match="device-side assert"):
        graphs.capture(columns(1), [make_buffers()], lose_device)


def test_the_least_recently_used_graphs_are_dropped_with_their_buffers() -> None:
    graphs, _ = recording_graphs(2 * (BUFFER_BYTES + CAPTURED_BYTES))
    buffers = [make_buffers() for _ in range(3)]
    for part in buffers[:2]:
        capture(graphs, part)
        graphs.keep(part)
    assert graphs.nbytes == 2 * (BUFFER_BYTES + CAPTURED_BYTES)
    assert replay(graphs, buffers[0])
    capture(graphs, buffers[2])
    assert graphs.status == "on, 2 captured"
    assert not graphs.has_graphs(buffers[1])
    assert graphs.nbytes == BUFFER_BYTES + 2 * CAPTURED_BYTES
    assert graphs.take(buffers[1].owner, 1, 64) is None
    assert graphs.take(buffers[0].owner, 1, 64) is buffers[0]
    assert graphs.nbytes == 2 * CAPTURED_BYTES


def test_buffers_of_more_than_half_of_the_memory_are_freed_with_their_graphs() -> None:
    graphs, _ = recording_graphs(3 * BUFFER_BYTES)
    large, small = make_buffers(2), make_buffers()
    for part in (small, large):
        capture(graphs, part)
        graphs.keep(part)
    assert [graphs.has_graphs(part) for part in (small, large)] == [True, False]
    assert graphs.nbytes == BUFFER_BYTES + CAPTURED_BYTES


def test_buffers_are_taken_by_their_own_cache_in_their_size_and_empty() -> None:
    graphs, buffers = recording_graphs()[0], make_buffers()
    capture(graphs, buffers)
    buffers.layers[0][0].fill_(torch.nan)
    graphs.keep(buffers)
    assert graphs.take(SlotCache(), 1, 64) is graphs.take(buffers.owner, 2, 64) is None
    assert graphs.take(buffers.owner, 1, 64) is buffers
    assert not buffers.layers[0][0].any()
    assert graphs.take(buffers.owner, 1, 64) is None


def test_the_shape_of_most_eager_steps_is_captured_first_and_not_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step_graphs, "MIN_EAGER_STEPS", 2)
    graphs, _ = recording_graphs(CAPTURED_BYTES - 1)
    one, two = make_buffers(), make_buffers(2)
    assert replay(graphs, one) is replay(graphs, two) is replay(graphs, two) is None
    assert (graphs.is_due(1, [one]), graphs.is_due(1, [two])) == (False, True)
    assert graphs.next_shape() == (1, ((2, 64),))
    assert graphs.next_shape() == (1, ((1, 64),))
    assert graphs.next_shape() is None
    for _ in range(graph_backend.MAX_CAPTURES):
        replay(graphs, two)
        assert graphs.next_shape() == (1, ((2, 64),))
        capture(graphs, two)
        assert graphs.status == "on, 0 captured"  # it takes more than all memory
    for _ in range(3):
        replay(graphs, two)
    assert not graphs.is_due(1, [two])
    assert graphs.next_shape() is None


@pytest.mark.parametrize(
    ("expected", "result", "text"),
    [
        ([1.0, 2.0], [1.0, 2.001], ""),
        ([1.0, 200.0], [1.0, 201.0], ""),
        ([1.0, 2.0], [1.0, 2.1], "the logits of a graph differ from the eager ones by 0.1, and 0.02 is allowed"),
        ([1.0, 2.0], [1.0, torch.nan], "the logits of a graph differ from the eager ones by nan, and 0.02 is allowed"),
        ([2.0, 2.005], [2.008, 2.0], ""),
        ([1.98, 2.005], [1.998, 1.99], "a graph chooses a token whose logit is smaller by 0.025"),
    ],
)
def test_logits_agree_within_a_tolerance_and_choose_the_same_token(
    expected: list[float], result: list[float], text: str
) -> None:
    assert difference(torch.tensor([expected]), torch.tensor([result]), 0.01) == text


def test_varied_numbers_are_as_valid_as_those_of_the_step() -> None:
    """A position or an id beyond the model's tables would end the process's GPU."""
    numbers = [[9, 1], [62, 3], [0, 7], [5, 0], [1, 0]]
    assert _varied(numbers, 0, 64) == numbers
    assert _varied(numbers, 2, 64) == [[7, 0], [63, 5], [0, 5], [3, 0], [1, 0]]


def test_a_graph_for_which_there_is_no_memory_is_not_captured(caplog: pytest.LogCaptureFixture) -> None:
    """Neither if it might take more than half of what is free, nor if memory runs out nevertheless."""
    graphs, backend = recording_graphs()
    capture(graphs, make_buffers())
    backend.used = 10**9 - 2 * CAPTURED_BYTES - 1  # two graphs of one slot
    with caplog.at_level(logging.INFO):
        capture(graphs, make_buffers(64), 64)
    assert backend.captures == 1
    assert caplog.messages == ["there is no memory for a graph of 64 slots"]
    assert not graphs.is_due(64, [make_buffers(64)])
    backend.used, backend.error = 0, torch.OutOfMemoryError("CUDA out of memory")
    capture(graphs, make_buffers(2), 2)
    assert graphs.status == "on, 1 captured"
    graphs.clear()
    backend.error = None
    capture(graphs, make_buffers(64), 64)
    assert graphs.status == "on, 1 captured"
