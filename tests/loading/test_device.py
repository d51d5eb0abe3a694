"""A device by its name, and torch's options for CUDA; the calls of CUDA are replaced, so nothing here runs on a GPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from blip_space.catalogue import TINY_FOLDER, read_folder
from blip_space.errors import ModelError
from blip_space.loading import loader
from blip_space.loading.device import Device, configure_cuda, cpu_has_bf16, find_device

CUDA: Any = torch.backends.cuda
FREE = (3_000, 9_000, 5_000)
"""The free bytes of three GPUs."""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three GPUs, of which only the last computes in bf16."""
    chosen = list[int]()

    def choose(number: int) -> nullcontext[None]:
        chosen.append(number)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(FREE))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (FREE[number], 10_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    monkeypatch.setattr(torch.cuda, "device", choose)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda *, including_emulation: including_emulation or chosen[-1] == 2
    )


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def _restored_options() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    enabled = CUDA.cudnn_sdp_enabled()
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.backends.cuda.enable_cudnn_sdp(enabled)


@pytest.mark.usefixtures("gpus")
def test_auto_is_the_gpu_with_the_most_free_memory_and_a_number_is_that_gpu() -> None:
    assert find_device() == find_device("auto")
    assert find_device().name == "cuda:1"
    assert find_device().reason == "GPU 1, of 3 GPUs the one with the most free memory; a model runs on one"
    assert find_device("cuda:2") == Device("cuda:2", "GPU 2, as requested", has_bf16=True)
    assert not find_device("cuda:0").has_bf16


@pytest.mark.usefixtures("gpus")
def test_the_cpu_can_be_requested_on_a_machine_with_gpus() -> None:
    assert find_device("cpu") == Device("cpu", "as requested", has_bf16=cpu_has_bf16())


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("cuda:3", r"torch finds no device cuda:3 on this machine\. Choose auto, cpu, cuda:0, cuda:1 or cuda:2\.$"),
        ("mps", r"torch finds no device mps on this machine\. Choose auto, cpu,"),
        ("cuda:0,cuda:1", r"^A model runs on one device, and only a server takes several\. Choose auto, cpu,"),
        ("cuda:00", r"torch finds no device cuda:00 on"),
        ("cuda", "'cuda' is not a device"),
        ("", "'' is not a device"),
    ],
)
def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are(wanted: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        find_device(wanted)


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_a_gpu_has_the_cpu_only() -> None:
    assert find_device().name == "cpu"
    with pytest.raises(
        ModelError, match=r"no device cuda:0 .* a torch built for CUDA are installed\. Choose auto or cpu"
    ):
        find_device("cuda:0")


@pytest.mark.usefixtures("_restored_options")
@pytest.mark.parametrize(("dtype", "tf32"), [(torch.float32, False), (torch.bfloat16, True)])
def test_cudnn_attention_is_off_and_tf32_where_the_model_computes_in_fp32(dtype: torch.dtype, tf32: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cuda.enable_cudnn_sdp(True)
    configure_cuda(dtype)
    assert not CUDA.cudnn_sdp_enabled()
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (tf32, tf32)


def test_the_options_for_cuda_are_set_before_a_model_is_loaded_there_and_not_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured = list[torch.dtype]()

    def fail(*_: Any, **__: Any) -> None:
        raise ModelError(f"configured for {configured}")

    monkeypatch.setattr(loader, "configure_cuda", configured.append)
    loader.load_model(read_folder(TINY_FOLDER), device="cpu")
    assert configured == []
    monkeypatch.setattr(loader, "find_device", lambda _: Device("cuda:7", "", has_bf16=False))
    monkeypatch.setattr(loader, "free_bytes", lambda _: None)
    monkeypatch.setattr(loader, "on_device", lambda _: nullcontext())
    monkeypatch.setattr(loader, "load_hf_model", fail)
    with pytest.raises(ModelError, match=r"configured for \[torch.float32\]"):
        loader.load_model(read_folder(TINY_FOLDER), device="cuda:7")


@pytest.mark.parametrize(("device", "current"), [("cuda:2", [2]), ("cpu", list[int]())])
def test_a_model_is_loaded_with_its_gpu_as_the_current_one(
    monkeypatch: pytest.MonkeyPatch, device: str, current: list[int]
) -> None:
    """Kernels of other libraries run on the current one."""
    entered, loaded = list[Any](), list[list[Any]]()

    def make_current(name: str) -> nullcontext[None]:
        entered.append(int(name.removeprefix("cuda:")))
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", make_current)
    monkeypatch.setattr(loader, "find_device", lambda _: Device(device, "", has_bf16=True))
    monkeypatch.setattr(loader, "_load_and_test", lambda *_: loaded.append(list(entered)))
    loader.load_model(read_folder(TINY_FOLDER), device=device)
    assert loaded == [current]


def test_two_threads_load_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers changes torch's default dtype, which all threads share, while it loads."""
    running, others = list[object](), list[int]()

    def load(*_: Any) -> None:
        others.append(len(running))
        running.append(object())
        time.sleep(0.05)
        running.pop()

    monkeypatch.setattr(loader, "_load_and_test", load)
    threads = [
        threading.Thread(target=loader.load_model, args=(read_folder(TINY_FOLDER),), kwargs={"device": "cpu"})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert others == [0, 0]
