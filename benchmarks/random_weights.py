"""Models of the published sizes with random weights: the same speed and memory, without a download.

The sizes are from the configurations of the checkpoints. Must not import any other benchmark. Each token is one word,
so an answer that is tokenised again in a later turn has the same ids; with random ids of a real vocabulary it would
not, although it mostly does with a real model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
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

STANDARD_DEVIATION = 0.02
SMALL_SPREAD = 10
"""Small models have weights so many times larger, or their answers would not depend on the image."""

BLOCK = 1 << 20
"""Weights repeat a block of this many random numbers; the rows of a matrix still differ."""

QUERY_TOKENS = 32


def _t5(kind: Any, vocabulary: int, **sizes: int) -> Any:
    """The XL size of T5 1.1 and mT5."""
    xl = {"d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_decoder_layers": 24, "num_heads": 32}
    return kind(
        **{"vocab_size": vocabulary} | xl | sizes,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        bos_token_id=0,
    )


def _opt(**sizes: int) -> Any:
    layers = {"ffn_dim": 10240, "num_hidden_layers": 32, "num_attention_heads": 32}
    full = {"vocab_size": 50304, "hidden_size": 2560, "word_embed_proj_dim": 2560, "max_position_embeddings": 2048}
    return OPTConfig(**full | layers | sizes)


def _bloom(**sizes: int) -> Any:
    return BloomConfig(**{"vocab_size": 250880, "hidden_size": 4096, "n_layer": 30, "n_head": 32} | sizes)


LANGUAGE_MODELS: dict[str, tuple[str, Callable[..., Any]]] = {
    "opt-2.7b-random": ("opt", _opt),
    "flan-t5-xl-random": ("t5", partial(_t5, T5Config, 32128)),
    "mt0-xl-random": ("mt5", partial(_t5, MT5Config, 250112)),
    "bloomz-7b-random": ("bloom", _bloom),
}

SMALL_HIDDEN, SMALL_VOCABULARY = 64, 1 << 15
_SMALL_T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
SMALL_SIZES: dict[str, dict[str, int]] = {
    "opt": {
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "ffn_dim": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    "t5": _SMALL_T5,
    "mt5": _SMALL_T5,
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
}
"""By type of language model: sizes for a benchmark's dry run."""


LLAVA = "llava-1.5-7b-random"
NAMES = (*LANGUAGE_MODELS, LLAVA)


def build(
    name: str, *, dtype: torch.dtype, device: str = "cpu", small: bool = False
) -> tuple[Any, Any, VisionLanguageModel]:
    """transformers' model and tokenizer, and blip-space's model on the same weights, made on that device. `small`
    replaces the sizes of a BLIP-2 by tiny ones."""
    hf_model = _build_hf_model(name, dtype, device=device, small=small)
    tokenizer, own_tokenizer = (_build_tokenizer(hf_model.config.text_config.vocab_size) for _ in range(2))
    parameters = sum(weight.numel() for weight in hf_model.parameters())
    precision = Precision("fp32" if dtype == torch.float32 else "bf16", device, "set by the benchmark", dtype)
    if name == LLAVA:
        spec = ModelSpec(name, name, "llava", "llama", "llava", parameters, ("en",), context_tokens=4096)
        preparation = _llava_preparation(spec, hf_model, own_tokenizer)
        return hf_model, tokenizer, Llava(hf_model, preparation, precision=precision)
    kind = LANGUAGE_MODELS[name][0]
    spec = ModelSpec(name, name, "blip2", kind, FAMILY.language_models[kind].prompt_style, parameters, ("en",))
    blip2_preparation = Blip2Preparation(
        spec,
        Tokenizer(FastTokenizer(own_tokenizer)),
        ImageProcessor(hf_model.config.vision_config.image_size),
        QUERY_TOKENS,
    )
    return hf_model, tokenizer, Blip2(hf_model, blip2_preparation, precision=precision)


def _llava_preparation(spec: ModelSpec, hf_model: Any, tokenizer: Any) -> LlavaPreparation:
    side = hf_model.config.vision_config.image_size
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_convert_rgb=True
    )
    token = hf_model.config.image_token_id
    return LlavaPreparation(
        spec,
        Tokenizer(FastTokenizer(tokenizer)),
        ChatTemplate(tokenizer, STYLES[spec.prompt_style].chat_template, image_token=token, name=spec.name),
        TransformersImageProcessor(processor),
        positions=576,
        eos_token_ids=frozenset(),
    )


def save(name: str, folder: Path, *, device: str = "cpu", small: bool = False) -> None:
    """Save the model as a checkpoint in bf16 shards."""
    _build_hf_model(name, torch.bfloat16, device=device, small=small).save_pretrained(folder, max_shard_size="2GB")
    AutoTokenizer.from_pretrained(TINY_FOLDER).save_pretrained(folder)
    (folder / "blip_space.json").write_text(json.dumps({"name": name, "languages": ["en"]}))


def _build_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """One word per token; any other text is the unknown word."""
    words = RustTokenizer(models.WordLevel({f"w{number}": number for number in range(size - 1)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([AddedToken("<image>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0")


def _build_hf_model(name: str, dtype: torch.dtype, *, device: str, small: bool) -> Any:
    hf_model = _build_llava(dtype, device) if name == LLAVA else _build_blip2(name, dtype, device, small=small)
    _fill_with_noise(hf_model, STANDARD_DEVIATION * (SMALL_SPREAD if small else 1))
    config = GenerationConfig(pad_token_id=0, decoder_start_token_id=0, bos_token_id=0)
    hf_model.generation_config = config
    if name != LLAVA:
        hf_model.language_model.generation_config = config
    return hf_model


def _build_llava(dtype: torch.dtype, device: str) -> Any:
    """Vicuna-7B with CLIP's ViT-L/14 at 336 pixels, which are the defaults."""
    with torch.device("meta"):
        hf_model = LlavaForConditionalGeneration(
            LlavaConfig(text_config=LlamaConfig(vocab_size=32064).to_dict(), image_token_index=32063)
        )
    hf_model = hf_model.to(dtype).to_empty(device=device).eval()
    body = hf_model.model.language_model
    body.rotary_emb = type(body.rotary_emb)(body.config).to(device)  # its frequencies are not weights
    return hf_model


def _build_blip2(name: str, dtype: torch.dtype, device: str, *, small: bool) -> Any:
    kind, make_config = LANGUAGE_MODELS[name]
    text_config = make_config(vocab_size=SMALL_VOCABULARY, **SMALL_SIZES[kind]) if small else make_config()
    sizes = {"hidden_size": SMALL_HIDDEN, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {"image_size": 224, "patch_size": 14}  # the other defaults are those of ViT-g
    config = Blip2Config(
        vision_config={"image_size": 56, "patch_size": 14, **sizes} if small else vision,
        qformer_config=Blip2QFormerConfig(**sizes, encoder_hidden_size=SMALL_HIDDEN).to_dict()
        if small
        else Blip2QFormerConfig(encoder_hidden_size=1408).to_dict(),
        text_config=text_config.to_dict(),
        num_query_tokens=QUERY_TOKENS,
        image_token_index=text_config.vocab_size - 1,
    )
    with torch.device("meta"):
        hf_model = Blip2ForConditionalGeneration(config)
    hf_model = hf_model.to(dtype).to_empty(device=device).eval()
    hf_model.tie_weights()
    if text_config.is_encoder_decoder:  # T5 1.1 and mT5 have an untied head
        head = hf_model.language_model.lm_head
        head.weight = torch.nn.Parameter(torch.empty_like(head.weight))
    return hf_model


@torch.no_grad()
def _fill_with_noise(hf_model: Any, deviation: float) -> None:
    block = (torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * deviation).to(hf_model.device)
    start = 0
    for name, tensor in (*hf_model.named_parameters(), *hf_model.named_buffers()):
        if not tensor.is_floating_point():
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))  # positions
            continue
        if name.endswith("inv_freq"):
            continue
        if "norm" in name.lower() and name.endswith("weight"):
            tensor.fill_(1.0)
            continue
        flat = tensor.view(-1)
        start = (start + 7919) % BLOCK  # every tensor starts at another offset in the block
        rolled = torch.roll(block, start).to(tensor.dtype)
        for offset in range(0, flat.numel(), BLOCK):
            part = flat[offset : offset + BLOCK]
            part.copy_(rolled[: part.numel()])
