"""The kernels without a GPU: in Triton's interpreter, and compiled for several kinds of GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="there is no Triton for this system")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from blip_space.models.fused import kernels, product_kernels  # noqa: E402
from blip_space.models.fused.measured_products import FEW_ROWS, MAX_ROWS, ONE_ROW  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


def test_interpreted_kernels_compute_what_plain_torch_computes() -> None:
    """In a process of its own, since Triton reads the variable while it is imported."""
    files = [str(file) for file in Path(__file__).parent.glob("interpreted_*.py")]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:]


ATTENTION: dict[str, dict[str, Any]] = {
    "opt": {"HAS_BIAS": True},
    "bloom": {"HAS_BIAS": True, "BIAS": "slopes"},
    "t5": {"BIAS": "distances"},
    "cross": {"HAS_NEW": False},
    "llama": {"ROTARY": True},
}
POINTERS: dict[str, str] = {
    "lengths": "*i64", "positions": "*i64", "cos": "*fp32", "sin": "*fp32", "saved_sums": "*fp32",
    "saved_tops": "*fp32", "counters": "*i32", "scale": "fp32", "epsilon": "fp32",
}  # fmt: skip
INTEGERS = (
    "count",
    "outs",
    "size",
    "query_row",
    "query_head",
    "new_row",
    "new_head",
    "slot_stride",
    "head_stride",
    "splits",
    "distances",
)


@pytest.mark.parametrize("target", [(75, "fp16"), (90, "bf16")], ids=str)
def test_kernels_compile(target: tuple[int, str]) -> None:
    capability, dtype = target
    for name, case in ATTENTION.items():
        numbers = {
            "HEADS": 32, "GROUP": 1, "WIDTH": 80, "BLOCK_WIDTH": 128, "BLOCK": 32, "MAX_SPLITS": 16, "STAGES": 1,
            "HAS_NEW": True, "HAS_BIAS": False, "ROTARY": False, "BIAS": None, "IS_SPLIT": name != "opt",
        } | case  # fmt: skip
        absent = {
            "HAS_NEW": ("key", "value"), "HAS_BIAS": ("query_bias", "key_bias", "value_bias"),
            "ROTARY": ("cos", "sin"), "BIAS": ("table", "positions"),
        }  # fmt: skip
        numbers |= {part: None for flag, parts in absent.items() if not numbers[flag] for part in parts}
        table = {"table": "*fp32"} if numbers["BIAS"] == "slopes" else {}
        compile_kernel(kernels.attend_kernel, numbers, dtype, capability, table)
    norm = {"SIZE": 2560, "BLOCK": 4096, "HAS_ADDEND": True, "HAS_BIAS": True, "CENTRED": True, "HAS_SHIFT": True}
    compile_kernel(kernels.add_norm_kernel, norm, dtype, capability)
    for activation in ("gelu", "gelu_tanh"):
        sizes = {"SIZE": 10240, "BLOCK": 1024, "ACTIVATION": activation}
        compile_kernel(kernels.activate_kernel, sizes | {"HAS_BIAS": True}, dtype, capability)
        compile_kernel(kernels.gate_kernel, sizes, dtype, capability)


def test_kernels_of_products_compile() -> None:
    for block_out, block_in, warps in ONE_ROW:
        numbers = {"BLOCK_OUT": block_out, "BLOCK_IN": block_in}
        compile_kernel(product_kernels.one_row_kernel, numbers, "fp16", 75, warps=warps)
    for block_out, block_in, stages, warps in FEW_ROWS:
        numbers = {"BLOCK_ROWS": MAX_ROWS, "BLOCK_OUT": block_out, "BLOCK_IN": block_in, "STAGES": stages}
        compile_kernel(product_kernels.few_rows_kernel, numbers, "bf16", 90, warps=warps)


def compile_kernel(
    kernel: Any,
    numbers: dict[str, Any],
    dtype: str,
    capability: int,
    other: dict[str, str] | None = None,
    *,
    warps: int = 4,
) -> None:
    """Compile to machine code for a GPU of this capability."""
    types = dict.fromkeys(INTEGERS, "i32") | POINTERS | (other or {})
    signature = {name: "constexpr" if name in numbers else types.get(name, f"*{dtype}") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=numbers)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    assert compiled.asm["cubin"]
