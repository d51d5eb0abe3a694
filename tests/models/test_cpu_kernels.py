"""On a CPU, packed weights and the attention of one new token compute what torch's own compute."""

from __future__ import annotations

import copy
import weakref
from pathlib import Path

import pytest
import torch
from transformers import Blip2ForConditionalGeneration

from blip_space.catalogue import read_folder
from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.loading.device import cpu_has_bf16
from blip_space.loading.loader import load_model
from blip_space.loading.preparation import load_preparation
from blip_space.models import cpu_kernels
from blip_space.models.cpu_kernels import PackedLinear, single_token_attention, use_cpu_kernels
from blip_space.models.families.blip2 import FAMILY, Blip2
from blip_space.models.interface import Embedded, Precision
from tests.checkpoints.blip2 import HIDDEN
from tests.checkpoints.generation import embed_text, image_positions


def test_a_packed_layer_equals_the_layer() -> None:
    layer, inputs = torch.nn.Linear(48, 20), torch.randn(3, 5, 48)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(copy.deepcopy(layer))(inputs), layer(inputs))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_single_token_attention_equals_torchs(masked: bool, biased: bool) -> None:
    query, buffers = torch.randn(3, 2, 1, 8), torch.randn(2, 3, 2, 64, 8)
    key, value = buffers[:, :, :, :37]
    mask = (torch.arange(37) >= torch.tensor([0, 5, 30])[:, None])[:, None, None] if masked else None
    bias = torch.randn(1, 2, 1, 37) if biased else None
    scores = torch.zeros(3, 2, 1, 37) if bias is None else bias.expand(3, -1, -1, -1)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    )
    output, _ = single_token_attention(torch.nn.Module(), query, key, value, mask, position_bias=bias)
    torch.testing.assert_close(output, expected.transpose(1, 2))


def test_a_model_computes_the_same_with_cpu_kernels(folders: dict[str, Path], family: str) -> None:
    """In fp32, where only rounding differs; the rows have different lengths, so that masks matter."""
    hf_model = Blip2ForConditionalGeneration.from_pretrained(folders[family]).eval()
    preparation, precision = load_preparation(read_folder(folders[family])), Precision("fp32", "cpu", "as asked")
    model = Blip2(hf_model, preparation, precision=precision)
    prompts = [random_prompt(model, length) for length in (9, 4, 6)]
    expected = batch_logits(new_batch(model.decoder), prompts)
    use_cpu_kernels(hf_model, FAMILY)
    batch = new_batch(Blip2(hf_model, preparation, precision=precision).decoder)
    torch.use_deterministic_algorithms(True)  # fills unused memory with NaN, which must not count
    try:
        logits = batch_logits(batch, prompts)
    finally:
        torch.use_deterministic_algorithms(False)
    assert any(isinstance(layer, PackedLinear) for layer in hf_model.language_model.modules())
    for step, expected_step in zip(logits, expected, strict=True):
        torch.testing.assert_close(step, expected_step, rtol=1e-3, atol=1e-3)


def test_a_layer_is_freed_as_soon_as_it_is_packed(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A LLaVA of 14 GB took 28 GB while it was packed, and the system killed the process."""
    hf_model = Blip2ForConditionalGeneration.from_pretrained(folders["opt"]).eval()
    layers = [weakref.ref(layer) for layer in hf_model.modules() if type(layer) is torch.nn.Linear]
    alive = list[int]()

    class CountingPackedLinear(PackedLinear):
        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__(layer)
            alive.append(sum(layer() is not None for layer in layers))

    monkeypatch.setattr(cpu_kernels, "PackedLinear", CountingPackedLinear)
    use_cpu_kernels(hf_model, FAMILY)
    assert len(alive) > 20
    assert alive[-1] <= len(layers) - len(alive) + 2  # the one being packed, and the one before it


def random_prompt(model: Blip2, length: int) -> Embedded:
    """A prompt of random embeddings."""
    start = embed_text(model, torch.zeros(image_positions(model.preparation), HIDDEN), "a").start
    return Embedded(torch.randn(length, HIDDEN), torch.arange(length)[None], length, start)


def batch_logits(batch: Batch, prompts: list[Embedded]) -> list[torch.Tensor]:
    """The logits of all steps while a sequence is removed and another added in its slot."""
    steps = [batch.prefill(prompts), batch.decode([5, 6, 7])]
    batch.select([0, 2])
    return [*steps, batch.prefill(prompts[1:2]), batch.decode([8, 9, 10]), batch.decode([3, 2, 1])]


def test_bf16_weights_are_packed_if_the_cpu_computes_in_bf16(folders: dict[str, Path], family: str) -> None:
    def packed(precision: str) -> list[bool]:
        hf_model = load_model(read_folder(folders[family]), precision)._hf_model
        return [isinstance(layer, PackedLinear) for layer in hf_model.language_model.modules()]

    assert any(packed("bf16")) == cpu_has_bf16()
    assert not any(packed("fp32"))
