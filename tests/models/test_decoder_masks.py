"""A decoder's masks and positions: what they hide, and how they reach transformers."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from blip_space.models.decoders import CausalDecoder, T5Decoder
from tests.models.small_decoders import DECODER_ONLY, ENCODER_DECODER, LENGTH, PROMPT, TEXT, WIDTH


@pytest.fixture(autouse=True)
def inference_mode() -> Iterator[None]:
    with torch.inference_mode():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", DECODER_ONLY)
def test_padding_does_not_change_a_prompts_logits(name: str, attention: str) -> None:
    model = DECODER_ONLY[name]().eval()
    model.set_attn_implementation(attention)
    decoder = CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=name == "bloom")
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[0, :PROMPT] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)[None]
    logits = decoder.forward(
        ids=TEXT, positions=positions, mask=decoder.prompt_mask(mask, LENGTH, is_padded=True), key_values=None
    )
    for row, start in enumerate((PROMPT, 0)):
        ids = TEXT[row : row + 1, start:]
        unpadded = decoder.prompt_mask(torch.ones_like(ids), ids.shape[1], is_padded=False)
        alone = decoder.forward(
            ids=ids, positions=torch.arange(ids.shape[1])[None, None], mask=unpadded, key_values=None
        )
        torch.testing.assert_close(logits[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ENCODER_DECODER)
def test_padding_does_not_change_the_logits_of_an_encoder_decoder(name: str) -> None:
    decoder, prompts = T5Decoder(ENCODER_DECODER[name]().eval()), torch.randn(2, LENGTH, WIDTH)
    unpadded, mask, start_mask = (torch.ones(2, LENGTH, dtype=torch.long) for _ in range(3))
    mask[0, PROMPT:] = 0  # prompts are padded on the right
    start_mask[0, :PROMPT] = 0

    def logits_of(rows: slice, ids: torch.Tensor, mask: torch.Tensor, start: torch.Tensor, *, is_padded: bool) -> Any:
        prompt = decoder.prompt_mask(mask, is_padded=is_padded)
        return decoder.forward(
            ids,
            positions=(start.cumsum(1) - 1).clamp(min=0)[None],
            mask=decoder.start_mask(start, is_padded=is_padded),
            states=decoder.encode(prompts[rows, : mask.shape[1]], prompt),
            prompt_mask=prompt,
            self_attention=None,
            cross_attention=None,
        )

    together = logits_of(slice(None), TEXT, mask, start_mask, is_padded=True)
    first = logits_of(slice(1), TEXT[:1, PROMPT:], unpadded[:1, :PROMPT], unpadded[:1, PROMPT:], is_padded=False)
    second = logits_of(slice(1, 2), TEXT[1:], unpadded[1:], unpadded[1:], is_padded=False)
    torch.testing.assert_close(together, torch.cat([first, second]), rtol=1e-4, atol=1e-4)


class RecordingBody:
    """Records the positions of its last call."""

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(_attn_implementation="sdpa")

    def forward(self, inputs_embeds: Any, position_ids: Any, **_: Any) -> Any:
        self.position_ids = position_ids
        return SimpleNamespace(last_hidden_state=inputs_embeds)

    __call__ = forward


@pytest.mark.parametrize(("axes", "shape"), [(1, (2, LENGTH)), (3, (3, 2, LENGTH))])
def test_positions_of_several_axes_are_passed_unchanged(axes: int, shape: tuple[int, ...]) -> None:
    body = RecordingBody()
    decoder = CausalDecoder(body, lambda hidden: hidden)
    decoder.axes = axes
    positions = torch.zeros(axes, 2, LENGTH, dtype=torch.long)
    decoder.forward(embeddings=torch.zeros(2, LENGTH, WIDTH), positions=positions, mask=None, key_values=None)
    assert body.position_ids.shape == shape
