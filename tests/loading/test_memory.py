"""A model that does not fit is refused before it exhausts the memory of the machine."""

from pathlib import Path

import pytest
import torch

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.loading import device, memory
from blip_space.loading.device import free_bytes
from blip_space.loading.memory import check_memory, reraise_out_of_memory
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Precision

SPEC = ModelSpec("large", "x/large", "blip2", "opt", "blip2", 3_740_000_000, ("en",))
BF16, FP32 = Precision("bf16", "cpu", "as requested"), Precision("fp32", "cpu", "as asked")


def test_weights_larger_than_the_free_memory_are_refused() -> None:
    with pytest.raises(
        ModelError, match=r"large does not fit .* in fp32 .* take 15 GB, and 8.0 GB are free\. bf16 \(7.48 GB\) or"
    ):
        check_memory(SPEC, FP32, free=8_000_000_000)
    check_memory(SPEC, BF16, free=8_000_000_000)


def test_nothing_is_refused_where_free_memory_is_unknown() -> None:
    check_memory(SPEC, FP32, free=None)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 GB"),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
        RuntimeError("CUDA error: out of memory"),
        torch.OutOfMemoryError("9 GB"),
    ],
)
def test_out_of_memory_is_reported(error: Exception) -> None:
    with pytest.raises(ModelError, match=r"large does not fit .* 7.48 GB\. Choose"), reraise_out_of_memory(SPEC, BF16):
        raise error


def test_memory_that_will_be_freed_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a model is swapped for another."""
    monkeypatch.setattr(memory, "find_device", lambda _: device.Device("cpu", "", has_bf16=True))
    monkeypatch.setattr(memory, "free_bytes", lambda _: 0)
    fitting = (
        memory.fitting_precisions(SPEC),
        memory.fitting_precisions(SPEC, freed=8_000_000_000),
        memory.fitting_precisions(SPEC, freed=99_000_000_000),
    )
    assert fitting[0] == ()
    assert "bf16" in fitting[1]
    assert "fp32" not in fitting[1]
    assert fitting[2] == SPEC.precisions
    monkeypatch.setattr(memory, "free_bytes", lambda _: None)
    assert memory.fitting_precisions(SPEC) == SPEC.precisions
    monkeypatch.setattr(memory, "find_device", lambda _: device.Device("mps", "", has_bf16=True))
    assert memory.fitting_precisions(SPEC) == ("fp32", "bf16", "fp16")


def test_other_errors_are_not_changed() -> None:
    """A bug keeps its traceback."""
    with pytest.raises(RuntimeError, match="a bug"), reraise_out_of_memory(SPEC, BF16):
        raise RuntimeError("a bug")


def test_gpu_memory_that_torch_has_reserved_and_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """After many answers, a model that fits was refused for the memory of finished ones."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2_000, 10_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 7_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 4_000)
    assert free_bytes("cuda:0") == 5_000
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10_000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 8_000)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 5_000)
    assert free_bytes("mps") == 5_000


def test_tighter_limit_of_machine_and_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    assert free_bytes("cpu") is None
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:   8 kB\nSwapFree:  2 kB\n")
    assert free_bytes("cpu") == 8 * 1024, "without swap"
    (tmp_path / "memory.max").write_text("4096\n")
    assert free_bytes("cpu") == 4096
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes("cpu") == 8 * 1024


@pytest.mark.parametrize(
    ("used", "stat", "free"),
    [
        ("3000", "", 1096),
        ("3000", "anon 2000\ninactive_anon 500\nactive_file 300\ninactive_file 700\n", 1796),
        ("5000", "", 0),
        ("500", "inactive_file 700\n", 4096),
        ("", "inactive_file 700\n", 4096),
    ],
)
def test_memory_that_a_container_uses_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: str, stat: str, free: int
) -> None:
    """`auto` chose a precision that was killed: the limit counted as free though half of it was in use."""
    monkeypatch.setattr(device, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    for name, text in {"memory.max": "4096\n", "memory.current": f"{used}\n", "memory.stat": stat}.items():
        (tmp_path / name).write_text(text)
    assert free_bytes("cpu") == free


def test_keys_and_values_use_half_of_the_free_memory(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> None:
    position_bytes = model.decoder.kv_bytes(1)
    monkeypatch.setattr(memory, "free_bytes", lambda _: 20 * position_bytes + 1)
    assert memory.kv_positions(model) == 10
    assert model.decoder.kv_bytes(300) == 300 * position_bytes
    monkeypatch.setattr(memory, "free_bytes", lambda _: None)
    assert memory.kv_positions(model) == 16 * model.spec.context_tokens
