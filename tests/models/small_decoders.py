"""Small language models of transformers with random weights, as decoders."""

from __future__ import annotations

from typing import Any

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

from blip_space.models.decoders import CausalDecoder

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


def _t5(model: Any, config: Any, sizes: dict[str, Any]) -> Any:
    return model(
        config(
            vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=LAYERS + 1, num_decoder_layers=LAYERS,
            num_heads=2, initializer_factor=4.0, decoder_start_token_id=0, **sizes,
        )
    )  # fmt: skip


def t5(**sizes: Any) -> Any:
    return _t5(T5ForConditionalGeneration, T5Config, sizes)


def mt5(**sizes: Any) -> Any:
    return _t5(MT5ForConditionalGeneration, MT5Config, sizes)


DECODER_ONLY = {"opt": opt, "bloom": bloom, "llama": llama}
ENCODER_DECODER = {"t5": t5, "mt5": mt5}


def causal(name: str) -> tuple[CausalDecoder, Any]:
    model = DECODER_ONLY[name]().eval()
    return CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=name == "bloom"), model
