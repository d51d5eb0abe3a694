"""Keys and values reach the layers of every language model, under the installed transformers' name for them.

5.23 calls the argument `past_key_values`, 5.24 `cache`. With the other's name 5.24 warns at every call, while 5.23
neither reads nor updates the cache, which only the logits show.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from transformers.cache_utils import DynamicCache

from blip_space.models.decoders import CausalDecoder, T5Decoder, key_values_argument
from tests.models.small_decoders import DECODER_ONLY, ENCODER_DECODER, LAYERS, LENGTH, PROMPT, TEXT, WIDTH, causal

NAMES = ("past_key_values", "cache")


@pytest.fixture(autouse=True)
def warnings_raise() -> Iterator[None]:
    """5.24 warns (`FutureWarning`) at every call with the old name."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error", FutureWarning)
        torch.manual_seed(0)
        yield


def prefill_and_decode(decoder: CausalDecoder, cache: DynamicCache) -> torch.Tensor:
    """The logits of each position from the prompt's last on: the prompt at once, then one token per step."""
    ends = range(PROMPT, LENGTH + 1)
    starts = [0, *ends[:-1]]
    logits = [
        decoder.forward(
            ids=TEXT[:, start:end],
            positions=torch.arange(start, end).expand(1, len(TEXT), -1),
            mask=torch.ones(len(TEXT), end, dtype=torch.long),
            key_values=cache,
        )
        for start, end in zip(starts, ends, strict=True)
    ]
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("name", DECODER_ONLY)
def test_decoding_with_a_cache_equals_one_forward_pass(name: str) -> None:
    decoder, model = causal(name)
    cache = DynamicCache()
    logits = prefill_and_decode(decoder, cache)
    torch.testing.assert_close(logits, model(TEXT, use_cache=False).logits[:, PROMPT - 1 :], rtol=1e-4, atol=1e-4)
    assert [layer.get_seq_length() for layer in cache.layers] == [LENGTH] * LAYERS, "a layer has cached nothing"


@pytest.mark.parametrize("name", DECODER_ONLY)
def test_a_decoder_only_model_reads_the_cache(name: str) -> None:
    """Other values in the cache give other logits."""
    decoder, _ = causal(name)
    logits = []
    for factor in (1.0, -1.0):
        cache = DynamicCache()
        mask, positions = torch.ones(2, PROMPT, dtype=torch.long), torch.arange(PROMPT).expand(1, 2, -1)
        decoder.forward(ids=TEXT[:, :PROMPT], positions=positions, mask=mask, key_values=cache)
        for layer in cache.layers:
            layer.values *= factor
        logits.append(
            decoder.forward(
                ids=TEXT[:, PROMPT : PROMPT + 1],
                positions=torch.full((1, 2, 1), PROMPT),
                mask=torch.ones(2, PROMPT + 1, dtype=torch.long),
                key_values=cache,
            )
        )
    assert (logits[0] - logits[1]).abs().max() > 0.1


def decode_answer(decoder: T5Decoder, states: torch.Tensor, caches: tuple[DynamicCache, DynamicCache]) -> torch.Tensor:
    """The logits of each position of an answer, one token per step; the first step gets the encoder's states."""
    logits = [
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
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("name", ENCODER_DECODER)
def test_decoding_after_an_encoder_equals_one_forward_pass(name: str) -> None:
    model = ENCODER_DECODER[name]().eval()
    decoder, prompt, caches = T5Decoder(model), torch.randn(2, 4, WIDTH), (DynamicCache(), DynamicCache())
    states = decoder.encode(prompt, torch.ones(2, 4, dtype=torch.long))
    logits = decode_answer(decoder, states, caches)
    at_once = model(inputs_embeds=prompt, decoder_input_ids=TEXT, use_cache=False).logits
    torch.testing.assert_close(logits, at_once, rtol=1e-4, atol=1e-4)
    assert [layer.get_seq_length() for layer in caches[0].layers] == [LENGTH] * LAYERS
    assert [layer.get_seq_length() for layer in caches[1].layers] == [4] * LAYERS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*DECODER_ONLY, *ENCODER_DECODER])
def test_the_size_of_keys_and_values_is_known_beforehand(name: str, dtype: torch.dtype) -> None:
    """It limits the batch size. Logits are float32, whatever dtype they are computed in."""
    mask, positions = torch.ones(2, LENGTH, dtype=torch.long), torch.arange(LENGTH).expand(1, 2, -1)
    own, cross = DynamicCache(), DynamicCache()
    if name in DECODER_ONLY:
        model = DECODER_ONLY[name]().eval().to(dtype)
        causal_decoder = CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=name == "bloom")
        logits = causal_decoder.forward(ids=TEXT, positions=positions, mask=mask, key_values=own)
        kv_bytes = causal_decoder.kv_bytes(LENGTH)
    else:
        t5_decoder = T5Decoder(ENCODER_DECODER[name]().eval().to(dtype))
        states = t5_decoder.encode(torch.randn(2, LENGTH, WIDTH).to(dtype), mask)
        logits = t5_decoder.forward(
            TEXT,
            positions=positions,
            mask=mask,
            states=states,
            prompt_mask=mask,
            self_attention=own,
            cross_attention=cross,
        )
        kv_bytes = t5_decoder.kv_bytes(LENGTH)
    size = sum(layer.keys.nbytes + layer.values.nbytes for cache in (own, cross) for layer in cache.layers)
    assert (2 * kv_bytes, logits.dtype) == (size, torch.float32)


@pytest.mark.parametrize("make", [*DECODER_ONLY.values(), *ENCODER_DECODER.values()])
def test_the_name_is_declared_by_the_forward_pass(make: Callable[[], Any]) -> None:
    """It is not one of its `**kwargs`; decorators do not hide it."""
    model = make()
    body = model if model.config.is_encoder_decoder else model.base_model
    declared = inspect.signature(body.forward).parameters
    assert [name for name in NAMES if name in declared] == [key_values_argument(body)]


@pytest.mark.parametrize("name", [*DECODER_ONLY, *ENCODER_DECODER])
def test_the_other_name_gives_wrong_logits_or_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail, and the two names still differ."""
    monkeypatch.setattr("blip_space.models.decoders.key_values_argument", other_name)
    check = (
        test_decoding_with_a_cache_equals_one_forward_pass
        if name in DECODER_ONLY
        else test_decoding_after_an_encoder_equals_one_forward_pass
    )
    with pytest.raises((AssertionError, FutureWarning, RuntimeError, TypeError, ValueError)):
        check(name)


def other_name(module: Any) -> str:
    return next(name for name in NAMES if name != key_values_argument(module))
