"""The selection of a precision: all cases."""

from dataclasses import replace

import pytest
import torch

from blip_space.catalogue import MODELS, PRECISIONS, ModelSpec
from blip_space.errors import ModelError
from blip_space.loading.device import Device, find_device
from blip_space.loading.memory import check_memory
from blip_space.loading.precision import ANSWER_BYTES, needed_gb, select_precision, supported_precisions
from blip_space.models.interface import Precision

SMALL = ModelSpec("small", "x/small", "blip2", "mt5", "mblip", 7_000_000, ("en",))
OPT, T5, MT5, BLOOM = (
    MODELS[name] for name in ("blip2-opt-2.7b", "blip2-flan-t5-xl", "mblip-mt0-xl", "mblip-bloomz-7b")
)
NEW_CPU, OLD_CPU = Device("cpu", "", has_bf16=True), Device("cpu", "", has_bf16=False)
NEW_GPU, OLD_GPU = Device("cuda:0", "", has_bf16=True), Device("cuda:1", "", has_bf16=False)
APPLE = Device("mps", "", has_bf16=True)
PLENTY = 10**12
FP32 = torch.float32


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
        (NEW_GPU, 12.0, "bf16"),
        (NEW_GPU, 10.0, "int4"),
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


CARDS = {
    # what is free of the memory of a card once CUDA has started, in 10^9 bytes, and whether it computes in bf16
    "RTX 2080, 8 GB": (7.9, False),
    "RTX 3060 Ti, 8 GB": (7.9, True),
    "RTX 3060, 12 GB": (12.0, True),
    "T4, 16 GB": (15.4, False),
    "A4000, 16 GB": (16.4, True),
    "RTX 3090, 24 GB": (24.7, True),
    "H200, 141 GB": (149.0, True),
}
TIGHT = (("RTX 2080, 8 GB", BLOOM), ("RTX 3060 Ti, 8 GB", BLOOM))
"""Where the weights fit, and little more."""


@pytest.mark.parametrize(
    ("card", "opt", "t5", "mt5", "bloom"),
    [
        ("RTX 2080, 8 GB", "int4", "", "", "int4"),
        ("RTX 3060 Ti, 8 GB", "int4", "int4", "int4", "int4"),
        ("RTX 3060, 12 GB", "bf16", "bf16", "bf16", "int4"),
        ("T4, 16 GB", "fp16", "int4", "int4", "int4"),
        ("A4000, 16 GB", "bf16", "bf16", "bf16", "int4"),
        ("RTX 3090, 24 GB", "bf16", "bf16", "bf16", "bf16"),
        ("H200, 141 GB", "bf16", "bf16", "bf16", "bf16"),
    ],
)
def test_auto_on_a_card_leaves_room_for_answers(card: str, opt: str, t5: str, mt5: str, bloom: str) -> None:
    """Where nothing does, it takes what fits by itself; "" is where a model is refused."""
    free_gb, has_bf16 = CARDS[card]
    device, free = Device("cuda:0", card, has_bf16), int(free_gb * 1e9)
    for spec, name in ((OPT, opt), (T5, t5), (MT5, mt5), (BLOOM, bloom)):
        selected = select_precision("auto", spec, device, free=free)
        if not name:
            with pytest.raises(ModelError, match="does not fit"):
                check_memory(spec, selected, free=free, device=device)
            continue
        check_memory(spec, selected, free=free, device=device)
        assert (spec.name, selected.name) == (spec.name, name)
        needed = needed_gb(spec, name, device) * 1e9
        assert free - needed >= max(ANSWER_BYTES, 0.15 * needed) or (card, spec) in TIGHT
        if name == "int4":
            assert "GB beside its answers and" in selected.reason
            assert selected.dtype == (torch.bfloat16 if has_bf16 else torch.float16 if spec in (OPT, BLOOM) else FP32)


def test_weights_that_leave_no_room_are_loaded_if_they_are_asked_for() -> None:
    """A short question may still be answered."""
    free = int(needed_gb(OPT, "bf16", NEW_GPU) * 1e9)
    assert select_precision("auto", OPT, NEW_GPU, free=free).name == "int4"
    requested = select_precision("bf16", OPT, NEW_GPU, free=free)
    check_memory(OPT, requested, free=free, device=NEW_GPU)
    assert requested.name == "bf16"
    assert select_precision("auto", OPT, NEW_CPU, free=free).name == "bf16", "a processor's memory can be freed"


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
