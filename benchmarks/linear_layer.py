"""`python -m benchmarks.linear_layer`: one layer of a large language model on this CPU, in every precision.

A decode step reads every weight once, but unpacking smaller weights may cost what it saves. "bf16, packed" is the
layout that the loader uses on a CPU with bf16 instructions. If torchao is installed, its int8 kernels are timed too.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks import report
from blip_space.loading.library_logging import silenced
from blip_space.models.cpu_kernels import PackedLinear

INPUTS, OUTPUTS = 2560, 10240
REPEATS = 30


def main() -> None:
    """Time each kind of layer with one row and with sixteen, and print the medians."""
    argparse.ArgumentParser(prog="python -m benchmarks.linear_layer", description=__doc__).parse_args()
    plain = nn.Linear(INPUTS, OUTPUTS, bias=False, dtype=torch.bfloat16)
    kinds: dict[str, Callable[[], Any]] = {
        "bf16": lambda: plain,
        "bf16, packed": lambda: PackedLinear(plain),
        "int8": lambda: _int8(plain),
        "int4": _int4,
    }
    if importlib.util.find_spec("torchao"):
        kinds |= {f"torchao {name}": partial(_torchao, plain, name) for name in ("weight-only", "dynamic")}
    print(f"A layer of {INPUTS} x {OUTPUTS}, {report.machine()}\n\n| precision | 1 row | 16 rows |\n|---|--:|--:|")
    with silenced(), torch.inference_mode():
        for name, make in kinds.items():
            layer = make()
            times = (_milliseconds(layer, torch.randn(rows, INPUTS, dtype=torch.bfloat16)) for rows in (1, 16))
            print(f"| {name} | {' | '.join(f'{time:.1f} ms' for time in times)} |", flush=True)


def _int8(plain: nn.Linear) -> Any:
    import bitsandbytes as bnb

    layer = bnb.nn.Linear8bitLt(INPUTS, OUTPUTS, bias=False, has_fp16_weights=False)
    layer.load_state_dict(plain.state_dict())
    return layer.to("cpu").eval()


def _int4() -> Any:
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(INPUTS, OUTPUTS, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    return layer.to(torch.bfloat16).to("cpu").eval()


def _torchao(plain: nn.Linear, kind: str) -> Any:
    import copy

    from torchao import quantization

    settings = {
        "weight-only": quantization.Int8WeightOnlyConfig,
        "dynamic": quantization.Int8DynamicActivationInt8WeightConfig,
    }
    layer = nn.Sequential(copy.deepcopy(plain))
    quantization.quantize_(layer, settings[kind]())
    return torch.compile(layer)


def _milliseconds(layer: Any, rows: torch.Tensor) -> float:
    for _ in range(3):
        layer(rows)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        layer(rows)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    main()
