"""Which numbers a model computes with: the whole table of decisions."""

import pytest
import torch

from blip_space.errors import ModelError
from blip_space.model.precision import PRECISIONS, choose, cpu_has_bf16, detect_device

SMALL, LARGE = 7_000_000, 3_740_000_000


@pytest.mark.parametrize(
    ("parameters", "device", "has_bf16", "name"),
    [
        (SMALL, "cpu", True, "fp32"),
        (SMALL, "cpu", False, "fp32"),
        (SMALL, "cuda", False, "fp32"),
        (LARGE, "cpu", True, "bf16"),
        (LARGE, "cpu", False, "fp32"),
        (LARGE, "cuda", False, "bf16"),
    ],
)
def test_auto_follows_size_and_machine(parameters: int, device: str, has_bf16: bool, name: str) -> None:
    decided = choose("auto", parameters=parameters, device=device, cpu_has_bf16=has_bf16)
    assert (decided.name, decided.device) == (name, device)


@pytest.mark.parametrize("wanted", ["auto", *PRECISIONS])
@pytest.mark.parametrize("has_bf16", [True, False])
def test_every_decision_carries_a_reason_that_fits_into_a_sentence(wanted: str, has_bf16: bool) -> None:
    reason = choose(wanted, parameters=LARGE, device="cpu", cpu_has_bf16=has_bf16).reason
    assert reason[0].islower()
    assert not reason.endswith(".")


@pytest.mark.parametrize(("wanted", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_what_is_asked_for_is_given(wanted: str, dtype: torch.dtype) -> None:
    assert choose(wanted, parameters=SMALL, device="cpu", cpu_has_bf16=False).dtype == dtype


def test_slow_bf16_is_given_and_told() -> None:
    assert "slowly" in choose("bf16", parameters=SMALL, device="cpu", cpu_has_bf16=False).reason


@pytest.mark.parametrize("wanted", ["int3", "", "FP32"])
def test_unknown_precision_is_told_what_there_is(wanted: str) -> None:
    with pytest.raises(ModelError, match=r"Choose auto, fp32 or bf16\."):
        choose(wanted, parameters=SMALL, device="cpu", cpu_has_bf16=True)


def test_this_machine_answers() -> None:
    assert detect_device() in ("cpu", "cuda")
    assert isinstance(cpu_has_bf16(), bool)
