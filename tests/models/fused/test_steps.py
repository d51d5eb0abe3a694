"""A fused step, by operations in plain torch, computes transformers' logits and writes its keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, OPTConfig, OPTForCausalLM, Qwen2Config, Qwen2ForCausalLM

from blip_space.engine.slot_cache import SlotCache
from blip_space.models.decoders import CausalDecoder, T5Decoder
from blip_space.models.fused.operations import UnsupportedModelError
from blip_space.models.fused.products import Product
from tests.models import small_decoders
from tests.models.fused.reference_operations import ReferenceOperations

SIZES: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "initializer_range": 0.4,
}  # fmt: skip
DECODER_ONLY = small_decoders.DECODER_ONLY | {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, head_dim=8, sliding_window=None)),
}
LENGTHS, POSITIONS, IDS = (0, 17, 25), (0, 20, 25), (3, 30, 5)
CAPACITY = 64


@pytest.fixture(autouse=True)
def inference_mode() -> Iterator[None]:
    with torch.inference_mode():
        torch.manual_seed(0)
        yield


def random_weights(model: Any) -> Any:
    """Also biases and norms, which are zeros and ones in a new model."""
    for parameter in model.eval().parameters():
        parameter.data.normal_(mean=0.1, std=0.3)
    return model


def cache(layers: int, heads: int, width: int) -> SlotCache:
    """Random keys and values of four slots, of which a step uses three."""
    cache = SlotCache()
    shape = (4, heads, CAPACITY, width)
    cache.buffers.layers = [(torch.randn(shape), torch.randn(shape)) for _ in range(layers)]
    cache.buffers.slots, cache.buffers.capacity = 4, CAPACITY
    return cache


def copied(cache: SlotCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(keys.clone(), values.clone()) for keys, values in cache.buffers.layers]


@pytest.mark.parametrize("name", DECODER_ONLY)
def test_a_step_has_transformers_logits(name: str) -> None:
    model = random_weights(DECODER_ONLY[name]())
    config = model.config
    decoder = CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=name == "bloom")
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    before = cache(config.num_hidden_layers, getattr(config, "num_key_value_heads", 2), width)
    decoder.fuse(ReferenceOperations())
    assert decoder.fused is not None
    ids, lengths, positions = (torch.tensor(numbers) for numbers in (IDS, LENGTHS, POSITIONS))
    layers = copied(before)
    logits = decoder.fused.step(ids, lengths, positions[None], layers)
    expected = decoder.forward(
        ids=ids[:, None],
        positions=positions[None, :, None],
        mask=decoder.slot_mask(lengths, CAPACITY),
        key_values=before.view(3, lengths),
    )
    assert logits.shape == (3, 32)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    for parts, expected_parts in zip(layers, before.buffers.layers, strict=True):
        torch.testing.assert_close(parts, expected_parts, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("is_gated", [True, False])
@pytest.mark.parametrize("name", small_decoders.ENCODER_DECODER)
def test_a_step_of_an_encoder_decoder_has_transformers_logits(name: str, is_gated: bool) -> None:
    feed_forward = "gated-gelu" if is_gated else "relu"
    model = random_weights(small_decoders.ENCODER_DECODER[name](feed_forward_proj=feed_forward))
    decoder, prompt_lengths = T5Decoder(model), torch.tensor((1, 30, 64))
    before, prompts = cache(2, 2, 8), cache(2, 2, 8)
    decoder.fuse(ReferenceOperations())
    assert decoder.fused is not None
    ids, lengths = (torch.tensor(numbers) for numbers in (IDS, LENGTHS))
    layers, prompt_layers = copied(before), copied(prompts)
    logits = decoder.fused.step(ids, lengths, lengths[None], layers, prompt_lengths, prompt_layers)
    expected = decoder.forward(
        ids[:, None],
        positions=lengths[None, :, None],
        mask=decoder.slot_mask(lengths, CAPACITY),
        states=None,
        prompt_mask=decoder.slot_mask(prompt_lengths - 1, CAPACITY),
        self_attention=before.view(3, lengths),
        cross_attention=prompts.view(3),
    )
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    for parts, expected_parts in zip(layers, before.buffers.layers, strict=True):
        torch.testing.assert_close(parts, expected_parts, rtol=1e-4, atol=1e-4)
    assert all(
        torch.equal(part, old)
        for layer, old_layer in zip(prompt_layers, prompts.buffers.layers, strict=True)
        for part, old in zip(layer, old_layer, strict=True)
    )


def test_weights_of_one_product_take_no_memory_twice() -> None:
    layers = [torch.nn.Linear(4, size) for size in (6, 2)]
    inputs = torch.randn(3, 4)
    expected = torch.cat([layer(inputs) for layer in layers], -1)
    product = Product(layers, ReferenceOperations(), torch.float32)
    assert product.bias is not None
    torch.testing.assert_close(product(inputs) + product.bias, expected)
    torch.testing.assert_close(torch.cat([layer(inputs) for layer in layers], -1), expected)
    assert len({layer.weight.untyped_storage().data_ptr() for layer in layers}) == 1


class OtherLinear(torch.nn.Linear):
    """As quantized layers and those with adapters are: what its forward pass computes is its own."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(inputs)


def test_layers_that_are_no_plain_products_are_called() -> None:
    layers, inputs = [torch.nn.Linear(4, 6), OtherLinear(4, 2)], torch.randn(3, 4)
    product = Product(layers, ReferenceOperations(), torch.float32)
    assert product.bias is None
    torch.testing.assert_close(product(inputs), torch.cat([layer(inputs) for layer in layers], -1))
    projected = product.heads(inputs, [3, 1], 2)
    assert projected.query.shape == (3, 3, 2)
    assert projected.query_bias is projected.value is None


def unsupported() -> Iterator[tuple[str, Any]]:
    sizes = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    opt = sizes | {"ffn_dim": 8, "max_position_embeddings": 8}
    yield "norms come after", lambda: OPTForCausalLM(OPTConfig(**opt, do_layer_norm_before=False))
    yield "projected", lambda: OPTForCausalLM(OPTConfig(**opt, word_embed_proj_dim=4))
    yield "activation is tanh", lambda: OPTForCausalLM(OPTConfig(**opt, activation_function="tanh"))
    yield "depend on the length", lambda: MistralForCausalLM(MistralConfig(**SIZES, head_dim=8, sliding_window=9))


@pytest.mark.parametrize(("reason", "build"), list(unsupported()))
def test_an_unsupported_model_has_no_fused_step_and_a_reason(reason: str, build: Any) -> None:
    model = build()
    decoder = CausalDecoder(model.base_model, model.get_output_embeddings())
    with pytest.raises(UnsupportedModelError, match=reason):
        decoder.fuse(ReferenceOperations())
    assert decoder.fused is None
