"""Models of the published sizes with random weights: what their speed and memory depend on, without a download.

The sizes are those of the checkpoints' own configurations. Knows configurations and how to fill tensors fast; knows no
benchmark. Each token is a word of its own, so that an answer read again is the same tokens: a real model's mostly are,
random tokens of a real vocabulary are not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from transformers import (
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    BloomConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MT5Config,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from blip_space.catalogue import TINY_FOLDER, ModelSpec
from blip_space.catalogue.families.blip2 import FAMILY
from blip_space.models.chat_template import ChatTemplate
from blip_space.models.families.blip2 import Blip2, Blip2Preparation
from blip_space.models.families.llava import Llava, LlavaPreparation
from blip_space.models.image_processor import ImageProcessor, TransformersImageProcessor
from blip_space.models.interface import Precision, VisionLanguageModel
from blip_space.models.tokenizer import FastTokenizer, Tokenizer
from blip_space.prompts import STYLES

SPREAD = 0.02
BLOCK = 1 << 20
"""Weights repeat a block of so many random numbers; no two rows of a matrix are alike for all that."""

QUERY_TOKENS = 32


def _t5(kind: Any, vocabulary: int) -> Any:
    """The XL size of T5 1.1 and mT5."""
    return kind(
        vocab_size=vocabulary,
        d_model=2048,
        d_kv=64,
        d_ff=5120,
        num_layers=24,
        num_decoder_layers=24,
        num_heads=32,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        bos_token_id=0,
    )


def _opt() -> Any:
    return OPTConfig(
        vocab_size=50304,
        hidden_size=2560,
        word_embed_proj_dim=2560,
        ffn_dim=10240,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=2048,
    )


TEXTS: dict[str, tuple[str, Any]] = {
    "opt-2.7b-shape": ("opt", _opt),
    "flan-t5-xl-shape": ("t5", lambda: _t5(T5Config, 32128)),
    "mt0-xl-shape": ("mt5", lambda: _t5(MT5Config, 250112)),
    "bloomz-7b-shape": ("bloom", lambda: BloomConfig(vocab_size=250880, hidden_size=4096, n_layer=30, n_head=32)),
}


LLAVA = "llava-1.5-7b-shape"
SHAPES = (*TEXTS, LLAVA)


def build(shape: str, *, dtype: torch.dtype) -> tuple[Any, Any, VisionLanguageModel]:
    """The network, its tokenizer, and the two as `blip_space` has them."""
    network = _network(shape, dtype)
    tokenizer, ours = (_words(network.config.text_config.vocab_size) for _ in range(2))
    parameters = sum(one.numel() for one in network.parameters())
    name = "fp32" if dtype == torch.float32 else "bf16"
    precision = Precision(name, "cpu", "as the benchmark was asked", dtype)
    if shape == LLAVA:
        spec = ModelSpec(shape, shape, "llava", "llama", "llava", parameters, ("en",), context_tokens=4096)
        return network, tokenizer, Llava(network, _llava_preparation(spec, network, ours), precision=precision)
    kind = TEXTS[shape][0]
    spec = ModelSpec(shape, shape, "blip2", kind, FAMILY.language_models[kind].prompt_style, parameters, ("en",))
    preparation = Blip2Preparation(spec, Tokenizer(FastTokenizer(ours)), ImageProcessor(224), QUERY_TOKENS)
    return network, tokenizer, Blip2(network, preparation, precision=precision)


def _llava_preparation(spec: ModelSpec, network: Any, tokenizer: Any) -> LlavaPreparation:
    side = network.config.vision_config.image_size
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_convert_rgb=True
    )
    token = network.config.image_token_id
    return LlavaPreparation(
        spec,
        Tokenizer(FastTokenizer(tokenizer)),
        ChatTemplate(tokenizer, STYLES[spec.prompt_style].chat_template, image_token=token, name=spec.name),
        TransformersImageProcessor(processor),
        positions=576,
        eos_token_ids=frozenset(),
    )


def write(shape: str, folder: Path) -> None:
    """The shape as a checkpoint in bf16 shards, as the loader reads them."""
    _network(shape, torch.bfloat16).save_pretrained(folder, max_shard_size="2GB")
    AutoTokenizer.from_pretrained(TINY_FOLDER).save_pretrained(folder)
    (folder / "blip_space.json").write_text(json.dumps({"name": shape, "languages": ["en"]}))


def _words(size: int) -> PreTrainedTokenizerFast:
    """As many words as the vocabulary has places; whatever else is written is the unknown word."""
    words = RustTokenizer(models.WordLevel({f"w{number}": number for number in range(size - 1)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([AddedToken("<image>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0")


def _network(shape: str, dtype: torch.dtype) -> Any:
    network = _llava(dtype) if shape == LLAVA else _blip2(shape, dtype)
    _fill(network)
    settings = GenerationConfig(pad_token_id=0, decoder_start_token_id=0, bos_token_id=0)
    network.generation_config = settings
    if shape != LLAVA:
        network.language_model.generation_config = settings
    return network


def _llava(dtype: torch.dtype) -> Any:
    """Vicuna-7B behind CLIP's ViT-L/14 at 336 pixels, which are the defaults."""
    with torch.device("meta"):
        network = LlavaForConditionalGeneration(
            LlavaConfig(text_config=LlamaConfig(vocab_size=32064).to_dict(), image_token_index=32063)
        )
    network = network.to(dtype).to_empty(device="cpu").eval()
    body = network.model.language_model
    body.rotary_emb = type(body.rotary_emb)(body.config)  # whose frequencies are no weights
    return network


def _blip2(shape: str, dtype: torch.dtype) -> Any:
    text_config = TEXTS[shape][1]()
    config = Blip2Config(
        vision_config={"image_size": 224, "patch_size": 14},  # the rest is ViT-g's by default
        qformer_config=Blip2QFormerConfig(encoder_hidden_size=1408).to_dict(),
        text_config=text_config.to_dict(),
        num_query_tokens=QUERY_TOKENS,
        image_token_index=text_config.vocab_size - 1,
    )
    with torch.device("meta"):
        network = Blip2ForConditionalGeneration(config)
    network = network.to(dtype).to_empty(device="cpu").eval()
    network.tie_weights()
    if text_config.is_encoder_decoder:  # T5 1.1 and mT5 have a head of their own
        head = network.language_model.lm_head
        head.weight = torch.nn.Parameter(torch.empty_like(head.weight))
    return network


@torch.no_grad()
def _fill(network: Any) -> None:
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * SPREAD
    start = 0
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if not tensor.is_floating_point():
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))  # positions
            continue
        if name.endswith("inv_freq"):
            continue
        if "norm" in name.lower() and name.endswith("weight"):
            tensor.fill_(1.0)
            continue
        flat = tensor.view(-1)
        start = (start + 7919) % BLOCK  # every tensor begins elsewhere in the block
        rolled = torch.roll(block, start).to(tensor.dtype)
        for place in range(0, flat.numel(), BLOCK):
            part = flat[place : place + BLOCK]
            part.copy_(rolled[: part.numel()])
