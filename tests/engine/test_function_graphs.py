"""Which graphs of a function are captured, kept and believed."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from blip_space.engine.function_graphs import ALIGNMENT, FIRST_ESTIMATE, FunctionGraphs, Tensors
from blip_space.engine.graph_backend import MAX_CAPTURES
from tests.engine.fake_graphs import CAPTURED_BYTES, RecordingBackend
from tests.lost_device import lose_device

WIDTH = 4
INPUT_BYTES = 2 * ALIGNMENT
"""Of both inputs."""


def new_graphs(limit_bytes: int = 10**8, **behaviour: Any) -> tuple[FunctionGraphs, RecordingBackend]:
    backend = RecordingBackend(**behaviour)
    return FunctionGraphs("add", backend, torch.float32, limit_bytes), backend


def add(first: torch.Tensor, second: torch.Tensor) -> Tensors:
    return first + second, first - second


def random_inputs(count: int) -> Tensors:
    return torch.rand(count, WIDTH), torch.rand(count, WIDTH)


def capture(graphs: FunctionGraphs, count: int) -> None:
    graphs.capture((count,), add, lambda _: random_inputs(count))


def test_a_replay_computes_all_outputs_from_its_inputs() -> None:
    graphs, backend = new_graphs()
    capture(graphs, 2)
    graph = graphs.find((2,))
    assert graph
    assert backend.replays == 2  # one for each example
    for _ in range(2):
        inputs = random_inputs(2)
        for own, part in zip(graph.inputs, inputs, strict=True):
            own.copy_(part)
        outputs = graphs.replay(graph)
        assert outputs
        assert all(map(torch.equal, outputs, add(*inputs)))
    assert graphs.status == "on, 1 captured"


def test_what_is_missed_most_is_captured_first_and_not_again_and_again() -> None:
    graphs, _ = new_graphs(INPUT_BYTES + CAPTURED_BYTES)
    graphs._estimate = 1  # so that others are captured in its memory
    for count in (1, 2, 2, 3, 2, 3):
        assert graphs.find((count,)) is None
    assert [graphs.next_key() for _ in range(4)] == [(2,), (3,), (1,), None]
    for _ in range(MAX_CAPTURES):
        graphs.find((2,))
        assert graphs.next_key() == (2,)
        for count in (2, 3):
            graphs._estimate = 1
            capture(graphs, count)
            assert graphs.status == "on, 1 captured"
    graphs.find((2,))
    assert graphs.next_key() is None


def test_the_least_recently_used_graphs_are_dropped() -> None:
    graphs, _ = new_graphs(INPUT_BYTES + 2 * CAPTURED_BYTES)
    graphs._estimate = 1
    for count in (1, 2):
        capture(graphs, count)
    assert graphs.find((1,))
    graphs._estimate = 1
    capture(graphs, 3)
    assert [graphs.find((count,)) is not None for count in (1, 2, 3)] == [True, False, True]
    assert graphs.nbytes == INPUT_BYTES + 2 * CAPTURED_BYTES
    graphs.clear()
    assert graphs.nbytes == 0


def test_a_graph_that_might_not_fit_is_not_captured() -> None:
    """Its memory is estimated by the largest so far, and by its inputs."""
    first_bytes = WIDTH * 4
    graphs, backend = new_graphs(10 * CAPTURED_BYTES)
    capture(graphs, 1)
    assert graphs._estimate == CAPTURED_BYTES / first_bytes
    capture(graphs, 11)
    graphs.find((11,))
    assert graphs.next_key() is None
    assert backend.captures == 1
    estimate = FIRST_ESTIMATE * first_bytes + INPUT_BYTES
    for limit_bytes, free_bytes, captures in (
        (estimate, 2 * estimate, 1),
        (estimate - 1, 2 * estimate, 0),
        (estimate, 2 * estimate - 1, 0),
    ):
        first, backend = new_graphs(limit_bytes, used=10**9 - free_bytes)
        capture(first, 1)
        assert backend.captures == captures
        assert first.is_on


def test_all_graphs_have_their_inputs_in_the_same_memory() -> None:
    """A replay reads what was written to its own inputs before."""
    graphs, _ = new_graphs()
    for count in (3, 2, 100):
        capture(graphs, count)
    small, large, largest = (graphs.find((count,)) for count in (2, 3, 100))
    assert small
    assert large
    assert largest
    assert [part.data_ptr() for part in small.inputs] == [part.data_ptr() for part in large.inputs]
    assert largest.inputs[0].data_ptr() != large.inputs[0].data_ptr()
    for graph, count in ((small, 2), (large, 3), (largest, 100), (small, 2)):
        inputs = random_inputs(count)
        for own, part in zip(graph.inputs, inputs, strict=True):
            own.copy_(part)
        assert all(map(torch.equal, graphs.replay(graph) or (), add(*inputs)))


def spoil(result: torch.Tensor) -> None:
    result -= 3


def not_finite(result: torch.Tensor) -> None:
    result[0, 0] = torch.nan


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"corrupt": spoil}, "the result of a graph differs from the eager one by 3, and 0.00"),
        ({"corrupt": not_finite}, "the result of a graph differs from the eager one by nan"),
        ({"error": ValueError("no\nreally")}, "ValueError: no"),
        ({"replay_error": ValueError("no")}, "ValueError: no"),
    ],
)
def test_graphs_that_differ_or_raise_are_off(
    behaviour: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    graphs, _ = new_graphs(**behaviour)
    with caplog.at_level(logging.WARNING):
        capture(graphs, 2)
    assert graphs.status.startswith(f"off: {reason}")
    assert graphs.has_failed
    assert caplog.messages[0].startswith(f"from now on no CUDA graphs are used to add: {reason}")
    assert graphs.find((2,)) is None
    assert graphs.next_key() is None


def test_the_second_output_is_compared_too() -> None:
    graphs, _ = new_graphs()
    calls = list[int]()

    def changing(first: torch.Tensor, second: torch.Tensor) -> Tensors:
        calls.append(1)
        return first + second, first + len(calls)

    graphs.capture((2,), changing, lambda _: random_inputs(2))
    assert graphs.status.startswith("off: the result of a graph differs")


def test_a_replay_that_raises_in_use_has_no_outputs() -> None:
    graphs, backend = new_graphs()
    capture(graphs, 2)
    graph = graphs.find((2,))
    assert graph
    backend.replay_error = RuntimeError("later")
    assert graphs.replay(graph) is None
    assert graphs.status == "off: RuntimeError: later"


def test_a_lost_gpu_is_no_reason_to_run_eagerly() -> None:
    graphs, _ = new_graphs()
    with pytest.raises(RuntimeError, match="device-side assert"):
        graphs.capture((2,), lose_device, lambda _: random_inputs(2))
    capture(graphs, 2)
    graph = graphs.find((2,))
    assert graph
    graph.replay = lose_device
    with pytest.raises(RuntimeError, match="device-side assert"):
        graphs.replay(graph)


def test_without_a_backend_nothing_is_captured() -> None:
    graphs = FunctionGraphs("add", None, torch.float32, 100, "there is none")
    assert graphs.status == "off: there is none"
    assert graphs.find((1,)) is None
    assert graphs.next_key() is None
    assert not graphs.has_failed
