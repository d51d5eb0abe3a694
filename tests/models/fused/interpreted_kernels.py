"""The kernels in Triton's interpreter against the operations in plain torch; `test_kernels` runs it in a process of its
own."""

from __future__ import annotations

import pytest
import torch

from blip_space.models.fused import triton_operations
from blip_space.models.fused.operations import Cached, Norm, Projected, Scores
from blip_space.models.fused.triton_operations import TritonOperations
from tests.models.fused.interpreted import allow_loops_to_a_loaded_number
from tests.models.fused.reference_operations import ReferenceOperations

CAPACITY = 256
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}

allow_loops_to_a_loaded_number()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=TOLERANCE, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    chosen: torch.dtype = request.param
    return chosen


def operations() -> tuple[TritonOperations, ReferenceOperations]:
    return TritonOperations(torch.device("cpu")), ReferenceOperations()


def assert_close(result: torch.Tensor, expected: torch.Tensor) -> None:
    assert result.dtype == expected.dtype
    tolerance = TOLERANCE[result.dtype]
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("parts", ["none", "addend", "both"])
def test_norms(centred: bool, parts: str, dtype: torch.dtype) -> None:
    states, addend = torch.randn(2, 3, 80, dtype=dtype).unbind()
    bias, weight, shift = torch.randn(3, 80, dtype=dtype).unbind()
    norm = Norm(weight, shift if centred else None, 1e-5, centred=centred)
    results = []
    for each in operations():
        own = states.clone()
        given = addend if parts != "none" else None
        results.append((each.add_norm(own, given, bias if parts == "both" else None, norm), own))
    for result, expected in zip(*results, strict=True):
        assert_close(result, expected)


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu", "gelu_tanh"])
def test_activations(activation: str, dtype: torch.dtype) -> None:
    states, bias = torch.randn(3, 2100, dtype=dtype), torch.randn(2100, dtype=dtype)
    for each in (bias, None):
        result, expected = (own.activate(states.clone(), each, activation) for own in operations())
        assert_close(result, expected)
    result, expected = (own.gate(states, activation) for own in operations())
    assert_close(result, expected)


LENGTHS = (0, 70, 255)
HEADS, WIDTH = 2, 12
SCORES = {
    "plain": Scores(0.3),
    "slopes": Scores(0.3, slopes=torch.rand(HEADS)),
    "distances": Scores(1.0, distances=torch.randn(HEADS, 33), positions=torch.tensor([0, 71, 255])),
    "rotary": Scores(0.3, rotary=(torch.randn(3, WIDTH), torch.randn(3, WIDTH))),
}


@pytest.mark.parametrize("programs", [1, 12, 1000], ids=["whole", "two-parts", "more-parts"])
@pytest.mark.parametrize("kind", SCORES)
def test_attention(kind: str, programs: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """With slots that no row uses, and in one case with fewer heads of keys than of queries."""
    if kind == "slopes" and dtype != torch.float32:
        pytest.skip("the interpreter cuts a number where a GPU rounds it to bf16")
    monkeypatch.setattr(triton_operations, "PROGRAMS", programs)
    scores, results, key_heads = SCORES[kind], [], 1 if kind == "rotary" else HEADS
    sizes = [HEADS, key_heads, key_heads]
    numbers, bias = torch.randn(3, sum(sizes), WIDTH, dtype=dtype), torch.randn(sum(sizes), WIDTH, dtype=dtype)
    cached = torch.randn(2, 4, key_heads, CAPACITY, WIDTH, dtype=dtype)
    for each in operations():
        keys, values = cached.clone().unbind()
        biases = (None, None, None) if kind == "distances" else torch.split(bias, sizes)
        projected = Projected(*torch.split(numbers, sizes, 1), *biases)
        for _ in range(2):  # a second kernel finds the counters as the first did
            output = each.attend(projected, Cached(keys, values, torch.tensor(LENGTHS)), scores)
        results.append((output, keys, values))
    for result, expected in zip(*results, strict=True):
        assert_close(result, expected)


@pytest.mark.parametrize("programs", [1, 1000])
def test_cross_attention_reads_and_does_not_write(programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_operations, "PROGRAMS", programs)
    query, lengths = torch.randn(3, 4, 16), torch.tensor((1, 64, 200))
    keys, values = torch.randn(2, 3, 4, CAPACITY, 16).unbind()
    before = keys.clone(), values.clone()
    result, expected = (
        each.attend(Projected(query), Cached(keys, values, lengths), Scores(1.0)) for each in operations()
    )
    assert_close(result, expected)
    assert torch.equal(keys, before[0])
    assert torch.equal(values, before[1])


def test_interleaved_heads() -> None:
    numbers, bias = torch.randn(3, 4, 3, 16), torch.randn(4, 3, 16)
    keys, values = torch.randn(2, 3, 4, CAPACITY, 16).unbind()
    projected = Projected(*numbers.unbind(2), *bias.unbind(1))
    result, expected = (
        each.attend(projected, Cached(keys.clone(), values.clone(), torch.tensor((1, 64, 200))), Scores(0.5))
        for each in operations()
    )
    assert_close(result, expected)


def test_other_layouts_are_refused() -> None:
    own, _ = operations()
    keys, values = torch.randn(2, 3, 4, CAPACITY, 16).unbind()
    query, lengths = torch.randn(3, 4, 16), torch.tensor((1, 64, 200))
    with pytest.raises(ValueError, match="strides"):
        own.attend(Projected(query), Cached(keys.transpose(1, 2), values, lengths), Scores(1.0))
    with pytest.raises(ValueError, match="strides"):
        own.attend(
            Projected(query, query, torch.randn(4, 3, 16).transpose(0, 1)), Cached(keys, values, lengths), Scores(1.0)
        )
    with pytest.raises(ValueError, match="strides"):
        own.attend(Projected(query, query_bias=torch.randn(16, 4).T), Cached(keys, values, lengths), Scores(1.0))
