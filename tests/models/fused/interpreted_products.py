"""The kernels of products in Triton's interpreter; `test_kernels` runs it in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from blip_space.models.fused import measured_products
from blip_space.models.fused.measured_products import MeasuredProducts, few_rows, kernels_for, one_row
from blip_space.models.fused.triton_operations import TritonOperations
from tests.models.fused.interpreted import allow_loops_to_a_loaded_number

allow_loops_to_a_loaded_number()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_one_row(dtype: torch.dtype) -> None:
    inputs, weight = torch.randn(1, 80, dtype=dtype), torch.randn(21, 80, dtype=dtype)
    result = one_row(inputs, weight, (8, 32, 4))
    torch.testing.assert_close(result, functional.linear(inputs, weight), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_few_rows(rows: int) -> None:
    """In fp16, since the interpreter does not multiply matrices in bf16."""
    inputs, weight = torch.randn(rows, 80, dtype=torch.float16), torch.randn(21, 80, dtype=torch.float16)
    result = few_rows(inputs, weight, (16, 32, 3, 4))
    torch.testing.assert_close(result, functional.linear(inputs, weight), rtol=1e-2, atol=1e-2)


def test_a_model_uses_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one row, by the second kernel, which is measured once with weights of its shape; of 17, by cuBLAS."""
    seconds = iter((5.0, 4.5, 2.0, 9.0))
    measured = list[int]()

    def measure(_: object) -> float:
        measured.append(1)
        return next(seconds)

    monkeypatch.setattr(measured_products, "graph_seconds", measure)
    operations, used = TritonOperations(torch.device("cpu")), list[object]()
    weight = torch.randn(21, 80)
    operations.add_weight(weight)

    def recorded(*tensors: Any, sizes: tuple[int, int, int]) -> torch.Tensor:
        used.append(sizes)
        return one_row(tensors[0], tensors[1], sizes)

    monkeypatch.setattr(measured_products, "one_row", recorded)
    for _ in range(2):
        inputs = torch.randn(1, 80)
        torch.testing.assert_close(operations.product(inputs, weight), functional.linear(inputs, weight))
    assert len(measured) == 1 + len(measured_products.ONE_ROW)
    assert used[-1] == measured_products.ONE_ROW[1]
    inputs = torch.randn(17, 80)
    torch.testing.assert_close(operations.product(inputs, weight), functional.linear(inputs, weight))
    assert len(measured) == 1 + len(measured_products.ONE_ROW)


@pytest.mark.parametrize("problem", ["wrong", "raises", "slow"])
def test_a_kernel_that_is_wrong_or_raises_or_is_hardly_faster_is_not_used(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, weight = torch.randn(1, 80), torch.randn(21, 80)

    def broken(*tensors: Any, sizes: tuple[int, int, int]) -> torch.Tensor:
        if problem == "raises":
            raise RuntimeError("out of resource: shared memory")
        return one_row(tensors[0], tensors[1], sizes) * (2 if problem == "wrong" else 1)

    monkeypatch.setattr(measured_products, "one_row", broken)
    seconds = iter((1.0, 0.99, 0.98, 0.97) if problem == "slow" else (1.0, 0.1, 0.1, 0.1))
    products = MeasuredProducts(lambda _: next(seconds))
    assert products._fastest(inputs, weight) is functional.linear


def test_products_in_fp32_use_no_tensor_cores() -> None:
    assert not [name for name in kernels_for(4, torch.randn(21, 80)) if "few" in name]
    assert kernels_for(4, torch.randn(21, 80, dtype=torch.bfloat16))
    assert not kernels_for(17, torch.randn(21, 80, dtype=torch.bfloat16))
