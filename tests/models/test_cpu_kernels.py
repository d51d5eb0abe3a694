"""On a processor, packed weights and the attention of one new token say what torch's own say."""

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


def test_a_packed_layer_is_the_layer() -> None:
    layer, given = torch.nn.Linear(48, 20), torch.randn(3, 5, 48)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(copy.deepcopy(layer))(given), layer(given))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_one_new_token_looks_back_as_torch_does(masked: bool, biased: bool) -> None:
    query, room = torch.randn(3, 2, 1, 8), torch.randn(2, 3, 2, 64, 8)
    key, value = room[:, :, :, :37]
    mask = (torch.arange(37) >= torch.tensor([0, 5, 30])[:, None])[:, None, None] if masked else None
    bias = torch.randn(1, 2, 1, 37) if biased else None
    told = torch.zeros(3, 2, 1, 37) if bias is None else bias.expand(3, -1, -1, -1)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=told if mask is None else told.masked_fill(~mask, -torch.inf)
    )
    made, _ = single_token_attention(torch.nn.Module(), query, key, value, mask, position_bias=bias)
    torch.testing.assert_close(made, wanted.transpose(1, 2))


def test_a_hastened_network_says_what_it_said(folders: dict[str, Path], family: str) -> None:
    """In fp32, where the two differ by rounding only; rows of different lengths, so that masks matter."""
    network = Blip2ForConditionalGeneration.from_pretrained(folders[family]).eval()
    preparation, precision = load_preparation(read_folder(folders[family])), Precision("fp32", "cpu", "as asked")
    plain = Blip2(network, preparation, precision=precision)
    prompts = [random_prompt(plain, length) for length in (9, 4, 6)]
    before = written(new_batch(plain.decoder), prompts)
    use_cpu_kernels(network, FAMILY)
    hastened = new_batch(Blip2(network, preparation, precision=precision).decoder)
    torch.use_deterministic_algorithms(True)  # memory that nobody wrote is full of NaN, and must weigh nothing
    try:
        after = written(hastened, prompts)
    finally:
        torch.use_deterministic_algorithms(False)
    assert any(isinstance(layer, PackedLinear) for layer in network.language_model.modules())
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)


def test_a_layer_goes_as_soon_as_it_is_packed(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A LLaVA of 14 GB took 28 while it was packed, and the system ended the process."""
    network = Blip2ForConditionalGeneration.from_pretrained(folders["opt"]).eval()
    layers = [weakref.ref(layer) for layer in network.modules() if type(layer) is torch.nn.Linear]
    alive = list[int]()

    class Watched(PackedLinear):
        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__(layer)
            alive.append(sum(layer() is not None for layer in layers))

    monkeypatch.setattr(cpu_kernels, "PackedLinear", Watched)
    use_cpu_kernels(network, FAMILY)
    assert len(alive) > 20
    assert alive[-1] <= len(layers) - len(alive) + 2  # the one in hand, and the one before it


def random_prompt(model: Blip2, length: int) -> Embedded:
    """So many positions of random embeddings."""
    start = embed_text(model, torch.zeros(image_positions(model.preparation), HIDDEN), "a").start
    return Embedded(torch.randn(length, HIDDEN), torch.arange(length)[None], length, start)


def written(rows: Batch, prompts: list[Embedded]) -> list[torch.Tensor]:
    """Logits while rows join, step, leave, and another takes their place."""
    said = [rows.prefill(prompts), rows.decode([5, 6, 7])]
    rows.select([0, 2])
    return [*said, rows.prefill(prompts[1:2]), rows.decode([8, 9, 10]), rows.decode([3, 2, 1])]


def test_weights_in_bf16_are_packed_where_the_processor_computes_in_it(folders: dict[str, Path], family: str) -> None:
    network = load_model(read_folder(folders[family]), "bf16")._hf_model
    packed = [layer for layer in network.language_model.modules() if isinstance(layer, PackedLinear)]
    assert bool(packed) == cpu_has_bf16()
    assert not any(
        isinstance(layer, PackedLinear) for layer in load_model(read_folder(folders[family]))._hf_model.modules()
    )
