"""On a GPU, the products of 8-bit layers are those of their dequantized weights; bitsandbytes' CPU layers stand in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch

from blip_space.catalogue import read_folder
from blip_space.loading import loader
from blip_space.loading.device import Device
from blip_space.loading.loader import load_model
from blip_space.models.families.blip2 import Blip2
from blip_space.models.footprint import weight_bytes
from blip_space.models.int8_linear import Int8Linear, dequantize_in_products, is_int8
from tests.checkpoints.generation import first_logits, image_features

INPUTS, OUTPUTS = 64, 48


def quantized(*, bias: bool, used: bool) -> tuple[Any, torch.Tensor]:
    """A layer of bitsandbytes, and its weights before they were quantized."""
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear8bitLt(INPUTS, OUTPUTS, bias=bias, has_fp16_weights=False, threshold=6.0)
    plain = layer.weight.data.clone()
    layer = layer.to("cpu").eval()
    layer.weight = bitsandbytes.nn.Int8Params(plain, requires_grad=False, has_fp16_weights=False).to("cpu")
    if layer.weight.SCB is None:
        layer.weight._quantize("cpu")
    if used:
        layer(torch.zeros(1, INPUTS))
    return layer, plain


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_are_those_of_the_dequantized_weights(bias: bool, used: bool, dtype: torch.dtype) -> None:
    """Also where an input is an outlier, which bitsandbytes multiplies separately."""
    quantized_layer, plain = quantized(bias=bias, used=used)
    layer = Int8Linear(quantized_layer)
    steps = plain.abs().amax(1, keepdim=True) / 127
    assert ((layer.dequantize(torch.float32) - plain).abs() <= steps * 0.6).all()
    inputs = torch.randn(3, 5, INPUTS).to(dtype)
    inputs[0, 0, 7] = 60
    weight, offset = layer.dequantize(dtype), None if layer.bias is None else layer.bias.to(dtype)
    assert torch.equal(layer(inputs), torch.nn.functional.linear(inputs, weight, offset))
    error = (layer(inputs).float() - torch.nn.functional.linear(inputs.float(), plain, quantized_layer.bias)).abs()
    assert error.max() < 0.3
    assert layer(inputs).dtype == dtype


def test_a_step_reads_no_number_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes does, so that a graph cannot capture it."""
    layer = Int8Linear(quantized(bias=True, used=True)[0])
    for name in ("__bool__", "item", "tolist", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, None)
    layer(torch.ones(1, INPUTS))


def test_a_model_keeps_its_answers_and_its_size(folders: dict[str, Path], family: str, two_images: Any) -> None:
    model = load_model(read_folder(folders[family]), "int8")
    assert isinstance(model, Blip2)
    features = image_features(model, two_images)[0]
    expected, size = first_logits(model, features, "a photo of"), weight_bytes(model._hf_model)
    count = sum(is_int8(layer) for layer in model._hf_model.modules())
    dequantize_in_products(model._hf_model)
    layers = [layer for layer in model._hf_model.modules() if isinstance(layer, Int8Linear)]
    assert len(layers) == count > 5
    assert not any(is_int8(layer) for layer in model._hf_model.modules())
    assert weight_bytes(model._hf_model) == size
    logits = first_logits(model, features, "a photo of")
    similarity = torch.nn.functional.cosine_similarity(logits, expected)
    assert similarity > 0.98


@pytest.mark.parametrize(("device", "replaced"), [("cuda", True), ("cpu", False)])
def test_only_a_model_on_a_gpu_has_them(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, device: str, replaced: bool
) -> None:
    class Pretended(Device):
        kind = device  # where it computes stays as it is

    monkeypatch.setattr(loader, "find_device", lambda _: Pretended("cpu", "", has_bf16=True))
    monkeypatch.setattr(loader, "configure_cuda", lambda _: None)
    hf_model = load_model(read_folder(folders["opt"]), "int8")._hf_model
    assert any(isinstance(layer, Int8Linear) for layer in hf_model.modules()) is replaced


def test_layers_of_a_dora_adapter_are_left() -> None:
    class Adapted(torch.nn.Module):
        def __init__(self, *, dora: bool) -> None:
            super().__init__()
            self.base_layer, self.use_dora = quantized(bias=True, used=True)[0], {"default": dora}

    model = torch.nn.ModuleList([Adapted(dora=True), Adapted(dora=False)])
    dequantize_in_products(model)
    assert [isinstance(part.base_layer, Int8Linear) for part in model] == [False, True]
