"""Writes LLaVA checkpoints with random weights, small enough to load at once.

Their answers make no sense, but they depend on the image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from blip_space.loading.library_logging import silenced
from tests.checkpoints.blip2 import CORPUS

VISION_ENCODERS = ("clip", "siglip")
SIZE, PATCH = 28, 7
POSITIONS = {"clip": 16, "siglip": 16}
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "initializer_range": 0.3}
SPECIAL = ["<unk>", "<s>", "</s>", "<image>"]
IMAGE_TOKEN = SPECIAL.index("<image>")

TEMPLATE = """{% for m in messages %}{{ m['role'] | upper }}: {% for p in m['content'] if p['type'] == 'image' %}<image>
{% endfor %}{% for p in m['content'] if p['type'] == 'text' %}{% if m['role'] == 'assistant' %}{% generation %}\
{{ p['text'] + ' ' }}{% endgeneration %}{% else %}{{ p['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}\
{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""
"""Of the same form as LLaVA-1.5's own."""


def write(
    folder: Path, vision: str = "clip", *, template: str = TEMPLATE, sentencepiece: bool = False, seed: int = 0
) -> Path:
    """A checkpoint whose vision encoder is CLIP's, of which all positions but the first are used, or SigLIP's, of which
    all are. Its tokenizer is byte-level, or with `sentencepiece` like Llama's."""
    tokenizer = make_tokenizer(sentencepiece=sentencepiece)
    with silenced():
        make_hf_model(vision, len(tokenizer), seed=seed).save_pretrained(folder)
    make_processor(vision, tokenizer, template=template or None).save_pretrained(folder)
    if not template:
        tokenizer.save_pretrained(folder)
    if vision == "siglip":  # a SigLIP folder need not have LLaVA's prompt style
        (folder / "blip_space.json").write_text(json.dumps({"style": "llava"}))
    return folder


def make_processor(vision: str, tokenizer: Any, *, template: str | None) -> Any:
    """transformers' processor, which puts as many placeholders into a prompt as there are features."""
    sizes = {"height": SIZE, "width": SIZE}
    images = (
        CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=sizes)
        if vision == "clip"
        else SiglipImageProcessorPil(size=sizes)
    )
    select, extra = ("default", 1) if vision == "clip" else ("full", 0)
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy=select,
        num_additional_image_tokens=extra,
        chat_template=template,
    )


def make_hf_model(vision: str, vocab_size: int, *, seed: int = 0) -> Any:
    """Random weights, large enough that images and prompts matter; two query heads share one key head."""
    torch.manual_seed(seed)
    encoder = {"model_type": f"{vision}_vision_model", **SMALL, "num_hidden_layers": 3, "image_size": SIZE}
    text = {
        "model_type": "llama",
        **SMALL,
        "vocab_size": vocab_size,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    config = LlavaConfig(
        vision_config={**encoder, "patch_size": PATCH, **({"vision_use_head": False} if vision == "siglip" else {})},
        text_config=text,
        image_token_index=IMAGE_TOKEN,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default" if vision == "clip" else "full",
    )
    hf_model = LlavaForConditionalGeneration(config).eval()
    for weights in hf_model.model.multi_modal_projector.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    return hf_model


def make_tokenizer(*, sentencepiece: bool = False) -> Any:
    """A small tokenizer, trained here, that begins every text with `<s>`."""
    rust = _sentencepiece_like() if sentencepiece else _byte_level()
    rust.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL])
    rust.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=rust, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )


def _byte_level() -> Tokenizer:
    rust, level = Tokenizer(models.BPE()), pre_tokenizers.ByteLevel
    rust.pre_tokenizer, rust.decoder = level(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=level.alphabet(), show_progress=False
    )
    rust.train_from_iterator(CORPUS, trainer)
    return rust


def _sentencepiece_like() -> Tokenizer:
    """Like Llama's: a space before every text, and bytes for characters that are not in the vocabulary."""
    letters = sorted(
        {"▁", *(letter for line in CORPUS for letter in line if letter.isascii() and letter != "\n")} - {" "}
    )
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    words = sorted({f"▁{word}" for line in CORPUS[:3] for word in line.split()})
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    rust = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    rust.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    rust.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return rust
