"""The selection of a precision: all cases."""

from dataclasses import replace

import pytest
import torch

from blip_space.catalogue import MODELS, PRECISIONS, ModelSpec
from blip_space.errors import ModelError
from blip_space.loading.device import Device, find_device
from blip_space.loading.memory import check_memory
from blip_space.loading.precision import needed_gb, select_precision, supported_precisions
from blip_space.models.interface import Precision

SMALL = ModelSpec("small", "x/small", "blip2", "mt5", "mblip", 7_000_000, ("en",))
OPT, T5, MT5, BLOOM = (
    MODELS[name] for name in ("blip2-opt-2.7b", "blip2-flan-t5-xl", "mblip-mt0-xl", "mblip-bloomz-7b")
)
NEW_CPU, OLD_CPU = Device("cpu", "", has_bf16=True), Device("cpu", "", has_bf16=False)
NEW_GPU, OLD_GPU = Device("cuda:0", "", has_bf16=True), Device("cuda:1", "", has_bf16=False)
APPLE = Device("mps", "", has_bf16=True)
PLENTY = 10**12


def test_language_model_trained_in_bf16_may_overflow_in_fp16() -> None:
    reasons = [select_precision("fp16", spec, NEW_GPU, free=PLENTY).reason for spec in (OPT, BLOOM)]
    assert ["overflow" in reason for reason in reasons] == [False, True]


@pytest.mark.parametrize(
    ("spec", "device", "name"),
    [
        (SMALL, NEW_CPU, "fp32"),
        (SMALL, OLD_CPU, "fp32"),
        (SMALL, OLD_GPU, "fp32"),
        (OPT, NEW_CPU, "bf16"),
        (OPT, OLD_CPU, "fp32"),
        (OPT, NEW_GPU, "bf16"),
        (OPT, OLD_GPU, "fp16"),
        (BLOOM, OLD_GPU, "fp16"),
        (T5, OLD_GPU, "fp32"),
        (MT5, OLD_GPU, "fp32"),
        (MT5, APPLE, "bf16"),
    ],
)
def test_auto_depends_on_size_and_device(spec: ModelSpec, device: Device, name: str) -> None:
    selected = select_precision("auto", spec, device, free=PLENTY)
    assert (selected.name, selected.device) == (name, device.name)


@pytest.mark.parametrize(
    ("device", "free_gb", "name"),
    [
        (NEW_GPU, 10.0, "bf16"),
        (NEW_GPU, 8.0, "int4"),
        (NEW_CPU, 8.0, "int8"),
        (NEW_GPU, 7.0, "int4"),
        (NEW_CPU, 7.0, "int4"),
        (OLD_CPU, 12.0, "bf16"),
        (APPLE, 7.0, "bf16"),
    ],
)
def test_auto_selects_what_fits_and_reports_what_does_not(device: Device, free_gb: float, name: str) -> None:
    selected = select_precision("auto", MT5, device, free=int(free_gb * 1e9))
    assert selected.name == name
    assert (f"{free_gb:.1f} GB are free" in selected.reason) == (name in ("int8", "int4") or device is OLD_CPU)


def test_auto_selects_the_best_where_nothing_fits() -> None:
    assert select_precision("auto", MT5, NEW_GPU, free=10**9).name == "bf16"


@pytest.mark.parametrize("requested", ["auto", *PRECISIONS])
@pytest.mark.parametrize("device", [NEW_CPU, OLD_CPU, NEW_GPU, OLD_GPU])
def test_every_precision_has_a_reason_without_a_full_stop(requested: str, device: Device) -> None:
    reason = select_precision(requested, OPT, device, free=PLENTY).reason
    assert reason
    assert not reason.endswith(".")


@pytest.mark.parametrize(
    ("requested", "device", "dtype"),
    [
        ("fp32", NEW_CPU, torch.float32),
        ("bf16", OLD_CPU, torch.bfloat16),
        ("fp16", OLD_GPU, torch.float16),
        ("int8", NEW_GPU, torch.bfloat16),
        ("int4", OLD_GPU, torch.float16),
        ("int4", OLD_CPU, torch.bfloat16),
    ],
)
def test_requested_precision_is_selected(requested: str, device: Device, dtype: torch.dtype) -> None:
    selected = select_precision(requested, OPT, device, free=PLENTY)
    assert (selected.name, selected.dtype) == (requested, dtype)


def test_t5_never_computes_in_fp16_not_even_with_quantized_layers() -> None:
    for spec in (T5, MT5):
        with pytest.raises(ModelError, match=r"overflow.*Choose fp32, bf16, int8 or int4\."):
            select_precision("fp16", spec, NEW_GPU, free=PLENTY)
        for requested in ("int8", "int4"):
            assert select_precision(requested, spec, OLD_GPU, free=PLENTY).dtype == torch.float32, (
                "bf16 is emulated there"
            )
            assert select_precision(requested, spec, NEW_GPU, free=PLENTY).dtype == torch.bfloat16


def test_fp32_weights_of_a_quantized_model_are_counted() -> None:
    spec = replace(T5, parameters=4_000_000_000, quantized_parameters=3_000_000_000)
    assert (needed_gb(spec, "int8", NEW_GPU), needed_gb(spec, "int8", OLD_GPU)) == (5.0, 7.0)
    assert select_precision("auto", spec, NEW_CPU, free=6 * 10**9).name == "int8"
    assert select_precision("auto", spec, OLD_GPU, free=6 * 10**9).name == "int4"
    with pytest.raises(ModelError, match=r"int8 its weights alone take 7 GB, and 6\.0 GB are free\. int4 \(5\.69 GB"):
        check_memory(spec, select_precision("int8", spec, OLD_GPU, free=None), free=6 * 10**9, device=OLD_GPU)


def test_risky_or_slow_precision_is_selected_with_a_warning() -> None:
    assert "this CPU is slow in bf16" in select_precision("bf16", SMALL, OLD_CPU, free=None).reason
    assert "this GPU is slow in bf16" in select_precision("bf16", SMALL, OLD_GPU, free=None).reason
    assert "may overflow" in select_precision("fp16", BLOOM, NEW_GPU, free=None).reason
    assert "memory, not time" in select_precision("int8", MT5, OLD_CPU, free=None).reason
    assert "a longer load" in select_precision("int4", MT5, NEW_CPU, free=None).reason


def test_error_on_apples_gpu_lists_its_precisions() -> None:
    assert supported_precisions(MT5, APPLE) == ("fp32", "bf16")
    with pytest.raises(ModelError, match=r"Apple's GPU does not support int4\. Choose fp32 or bf16\."):
        select_precision("int4", MT5, APPLE, free=None)


@pytest.mark.parametrize("requested", ["int3", "", "FP32"])
def test_error_for_an_unknown_precision_lists_all(requested: str) -> None:
    with pytest.raises(ModelError, match=r"Choose auto, fp32, bf16, fp16, int8 or int4\."):
        select_precision(requested, SMALL, NEW_CPU, free=None)


def test_device_of_this_machine_works() -> None:
    device = find_device()
    assert device.kind in ("cuda", "mps", "cpu")
    assert device.reason
    assert torch.zeros(1, device=device.name).device.type == device.kind


def test_only_int8_and_int4_are_quantized() -> None:
    assert [name for name in PRECISIONS if Precision(name, "cpu", "").is_quantized] == ["int8", "int4"]
