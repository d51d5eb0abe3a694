"""Keys and values reach the layers of every language model, under the name that the installed transformers has.

5.23 calls the argument `past_key_values`, 5.24 `cache`. Under the other's name 5.24 warns at every call, while 5.23
reads and writes nothing, which only the logits tell.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.cache_utils import DynamicCache

from blip_space.models.decoders import CausalDecoder, T5Decoder, key_values_argument

NAMES = ("past_key_values", "cache")
WIDTH, VOCABULARY, LAYERS, LENGTH, PROMPT = 16, 32, 2, 7, 3
SPREAD = 0.4
"""Of the weights, so large that it matters what a position reads."""

TEXT = torch.tensor([[5, 9, 3, 17, 30, 8, 21], [4, 11, 29, 6, 2, 19, 13]])


def opt() -> Any:
    return OPTForCausalLM(
        OPTConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, word_embed_proj_dim=WIDTH, ffn_dim=32, init_std=SPREAD,
            num_hidden_layers=LAYERS, num_attention_heads=2, max_position_embeddings=32,
        )
    )  # fmt: skip


def bloom() -> Any:
    return BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=LAYERS, n_head=2, initializer_range=SPREAD)
    )


def llama() -> Any:
    """With fewer heads of keys and values than of queries, as the larger ones have, and of a width of their own."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=LAYERS,
            num_attention_heads=4, num_key_value_heads=2, head_dim=6, initializer_range=SPREAD,
        )
    )  # fmt: skip


def _t5(model: Any, config: Any) -> Any:
    return model(
        config(
            vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=LAYERS + 1, num_decoder_layers=LAYERS,
            num_heads=2, initializer_factor=4.0, decoder_start_token_id=0,
        )
    )  # fmt: skip


def t5() -> Any:
    return _t5(T5ForConditionalGeneration, T5Config)


def mt5() -> Any:
    return _t5(MT5ForConditionalGeneration, MT5Config)


DECODER_ONLY = {"opt": opt, "bloom": bloom, "llama": llama}
ENCODER_DECODER = {"t5": t5, "mt5": mt5}


@pytest.fixture(autouse=True)
def warnings_raise() -> Iterator[None]:
    """5.24 says `FutureWarning` at every call with the old name."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error", FutureWarning)
        torch.manual_seed(0)
        yield


def causal(name: str) -> tuple[CausalDecoder, Any]:
    model = DECODER_ONLY[name]().eval()
    return CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=name == "bloom"), model


def one_by_one(decoder: CausalDecoder, cache: DynamicCache) -> torch.Tensor:
    """The logits of each position from the prompt's last on: the prompt at once, then a token at a time."""
    ends = range(PROMPT, LENGTH + 1)
    starts = [0, *ends[:-1]]
    told = [
        decoder.forward(
            ids=TEXT[:, start:end],
            positions=torch.arange(start, end).expand(1, len(TEXT), -1),
            mask=torch.ones(len(TEXT), end, dtype=torch.long),
            key_values=cache,
        )
        for start, end in zip(starts, ends, strict=True)
    ]
    return torch.stack(told, dim=1)


@pytest.mark.parametrize("name", DECODER_ONLY)
def test_a_decoder_only_model_says_token_by_token_what_it_says_at_once(name: str) -> None:
    decoder, model = causal(name)
    cache = DynamicCache()
    told = one_by_one(decoder, cache)
    torch.testing.assert_close(told, model(TEXT, use_cache=False).logits[:, PROMPT - 1 :], rtol=1e-4, atol=1e-4)
    assert [layer.get_seq_length() for layer in cache.layers] == [LENGTH] * LAYERS, "a layer has written nothing"


@pytest.mark.parametrize("name", DECODER_ONLY)
def test_what_a_decoder_only_model_reads_is_what_was_handed_over(name: str) -> None:
    """Other values in the cache, other logits."""
    decoder, _ = causal(name)
    told = []
    for factor in (1.0, -1.0):
        cache = DynamicCache()
        mask, positions = torch.ones(2, PROMPT, dtype=torch.long), torch.arange(PROMPT).expand(1, 2, -1)
        decoder.forward(ids=TEXT[:, :PROMPT], positions=positions, mask=mask, key_values=cache)
        for layer in cache.layers:
            layer.values *= factor
        told.append(
            decoder.forward(
                ids=TEXT[:, PROMPT : PROMPT + 1],
                positions=torch.full((1, 2, 1), PROMPT),
                mask=torch.ones(2, PROMPT + 1, dtype=torch.long),
                key_values=cache,
            )
        )
    assert (told[0] - told[1]).abs().max() > 0.1


def answers(decoder: T5Decoder, states: torch.Tensor, caches: tuple[DynamicCache, DynamicCache]) -> torch.Tensor:
    """The logits of each position of an answer, a token at a time; the encoder's states are there the first time."""
    told = [
        decoder.forward(
            TEXT[:, end - 1 : end],
            positions=torch.full((1, len(TEXT), 1), end - 1),
            mask=torch.ones(len(TEXT), end, dtype=torch.long),
            states=states if end == 1 else None,
            prompt_mask=torch.ones(states.shape[:2], dtype=torch.long),
            self_attention=caches[0],
            cross_attention=caches[1],
        )
        for end in range(1, LENGTH + 1)
    ]
    return torch.stack(told, dim=1)


@pytest.mark.parametrize("name", ENCODER_DECODER)
def test_an_encoder_decoder_says_token_by_token_what_it_says_at_once(name: str) -> None:
    model = ENCODER_DECODER[name]().eval()
    decoder, prompt, caches = T5Decoder(model), torch.randn(2, 4, WIDTH), (DynamicCache(), DynamicCache())
    states = decoder.encode(prompt, torch.ones(2, 4, dtype=torch.long))
    told = answers(decoder, states, caches)
    at_once = model(inputs_embeds=prompt, decoder_input_ids=TEXT, use_cache=False).logits
    torch.testing.assert_close(told, at_once, rtol=1e-4, atol=1e-4)
    assert [layer.get_seq_length() for layer in caches[0].layers] == [LENGTH] * LAYERS
    assert [layer.get_seq_length() for layer in caches[1].layers] == [4] * LAYERS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*DECODER_ONLY, *ENCODER_DECODER])
def test_what_keys_and_values_take_is_known_before(name: str, dtype: torch.dtype) -> None:
    """A batch is as large as memory has room for them. Logits are float32, whatever they are computed in."""
    mask, positions = torch.ones(2, LENGTH, dtype=torch.long), torch.arange(LENGTH).expand(1, 2, -1)
    own, cross = DynamicCache(), DynamicCache()
    if name in DECODER_ONLY:
        model = DECODER_ONLY[name]().eval().to(dtype)
        only = CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=name == "bloom")
        told = only.forward(ids=TEXT, positions=positions, mask=mask, key_values=own)
        kv_bytes = only.kv_bytes(LENGTH)
    else:
        both = T5Decoder(ENCODER_DECODER[name]().eval().to(dtype))
        states = both.encode(torch.randn(2, LENGTH, WIDTH).to(dtype), mask)
        told = both.forward(
            TEXT,
            positions=positions,
            mask=mask,
            states=states,
            prompt_mask=mask,
            self_attention=own,
            cross_attention=cross,
        )
        kv_bytes = both.kv_bytes(LENGTH)
    taken = sum(layer.keys.nbytes + layer.values.nbytes for cache in (own, cross) for layer in cache.layers)
    assert (2 * kv_bytes, told.dtype) == (taken, torch.float32)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", DECODER_ONLY)
def test_a_padded_prompt_is_read_as_the_same_alone(name: str, attention: str) -> None:
    model = DECODER_ONLY[name]().eval()
    model.set_attn_implementation(attention)
    decoder = CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=name == "bloom")
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[0, :PROMPT] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)[None]
    told = decoder.forward(
        ids=TEXT, positions=positions, mask=decoder.prompt_mask(mask, LENGTH, is_padded=True), key_values=None
    )
    for row, start in enumerate((PROMPT, 0)):
        ids = TEXT[row : row + 1, start:]
        unpadded = decoder.prompt_mask(torch.ones_like(ids), ids.shape[1], is_padded=False)
        alone = decoder.forward(
            ids=ids, positions=torch.arange(ids.shape[1])[None, None], mask=unpadded, key_values=None
        )
        torch.testing.assert_close(told[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ENCODER_DECODER)
def test_a_padded_prompt_and_start_are_read_as_the_same_alone(name: str) -> None:
    decoder, prompts = T5Decoder(ENCODER_DECODER[name]().eval()), torch.randn(2, LENGTH, WIDTH)
    whole, mask, start_mask = (torch.ones(2, LENGTH, dtype=torch.long) for _ in range(3))
    mask[0, PROMPT:] = 0  # prompts are padded on the right
    start_mask[0, :PROMPT] = 0

    def told(rows: slice, ids: torch.Tensor, mask: torch.Tensor, start: torch.Tensor, *, is_padded: bool) -> Any:
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

    together = told(slice(None), TEXT, mask, start_mask, is_padded=True)
    first = told(slice(1), TEXT[:1, PROMPT:], whole[:1, :PROMPT], whole[:1, PROMPT:], is_padded=False)
    second = told(slice(1, 2), TEXT[1:], whole[1:], whole[1:], is_padded=False)
    torch.testing.assert_close(together, torch.cat([first, second]), rtol=1e-4, atol=1e-4)


class Body:
    """Notes which positions it is given."""

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(_attn_implementation="sdpa")

    def forward(self, inputs_embeds: Any, position_ids: Any, **_: Any) -> Any:
        self.position_ids = position_ids
        return SimpleNamespace(last_hidden_state=inputs_embeds)

    __call__ = forward


@pytest.mark.parametrize(("axes", "shape"), [(1, (2, LENGTH)), (3, (3, 2, LENGTH))])
def test_positions_of_several_axes_are_handed_over_as_they_are(axes: int, shape: tuple[int, ...]) -> None:
    body = Body()
    decoder = CausalDecoder(body, lambda hidden: hidden)
    decoder.axes = axes
    positions = torch.zeros(axes, 2, LENGTH, dtype=torch.long)
    decoder.forward(embeddings=torch.zeros(2, LENGTH, WIDTH), positions=positions, mask=None, key_values=None)
    assert body.position_ids.shape == shape


@pytest.mark.parametrize("make", [*DECODER_ONLY.values(), *ENCODER_DECODER.values()])
def test_the_name_is_one_that_the_forward_pass_declares(make: Callable[[], Any]) -> None:
    """Not one that it swallows with its other keyword arguments; decorators do not hide it."""
    model = make()
    body = model if model.config.is_encoder_decoder else model.base_model
    declared = inspect.signature(body.forward).parameters
    assert [name for name in NAMES if name in declared] == [key_values_argument(body)]


@pytest.mark.parametrize("name", [*DECODER_ONLY, *ENCODER_DECODER])
def test_under_the_other_name_the_logits_or_a_warning_would_tell(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the tests above can fail; and that there is still something to choose between."""
    monkeypatch.setattr("blip_space.models.decoders.key_values_argument", other_name)
    check = (
        test_a_decoder_only_model_says_token_by_token_what_it_says_at_once
        if name in DECODER_ONLY
        else test_an_encoder_decoder_says_token_by_token_what_it_says_at_once
    )
    with pytest.raises((AssertionError, FutureWarning, RuntimeError, TypeError, ValueError)):
        check(name)


def other_name(module: Any) -> str:
    return next(name for name in NAMES if name != key_values_argument(module))
