"""Which errors mean that the process has lost its GPU."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from blip_space.catalogue import TINY_FOLDER, read_folder
from blip_space.errors import DeviceError, ModelError
from blip_space.loading import loader, weights
from blip_space.loading.device_errors import DEVICE_FAILED, as_device_error, is_device_lost
from tests.lost_device import MESSAGE, accelerator_error, lose_device

OldAcceleratorError = type("AcceleratorError", (RuntimeError,), {})
"""As torch's, for a torch that has none."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (accelerator_error(), True),
        (OldAcceleratorError("an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"), True),
        (DeviceError(DEVICE_FAILED), True),
        (OldAcceleratorError("CUDA error: out of memory"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GB"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), False),
        (OldAcceleratorError("CUDA error: operation not permitted when stream is capturing"), False),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`"), False),
        (OldAcceleratorError("CUDA error: invalid device ordinal"), False),
        (RuntimeError("a bug"), False),
        (IndexError("index out of range in self"), False),
        (ValueError(MESSAGE), False),
    ],
)
def test_a_cuda_error_is_a_lost_device_unless_cuda_goes_on_after_it(error: Exception, expected: bool) -> None:
    assert is_device_lost(error) is expected


def test_the_error_is_logged_once_and_replaced_by_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        error = as_device_error(accelerator_error())
        assert as_device_error(error) is error
    assert str(error) == DEVICE_FAILED
    (record,) = caplog.records
    assert record.exc_info
    assert "device-side assert" in str(record.exc_info[1])


@pytest.mark.parametrize(("module", "name"), [(weights, "_load_generation_config"), (loader, "check_image_is_used")])
def test_a_device_that_is_lost_while_a_model_loads_is_no_error_of_the_model(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    monkeypatch.setattr(module, name, lose_device)
    with pytest.raises(DeviceError, match="The GPU failed"):
        loader.load_model(read_folder(TINY_FOLDER))


def test_another_error_while_a_model_loads_is_one_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(loader, "check_image_is_used", fail)
    with pytest.raises(ModelError, match="could not be loaded"):
        loader.load_model(read_folder(TINY_FOLDER))
