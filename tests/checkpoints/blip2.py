"""Writes BLIP-2 checkpoints with random weights and each type of language model, small enough to load at once.

Their answers make no sense, but they depend on the image.
"""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BloomConfig,
    MT5Config,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_space.loading.library_logging import silenced

LANGUAGE_MODELS = ("opt", "t5", "mt5", "bloom")
QUERY_TOKENS = {"opt": 4, "t5": 8, "mt5": 4, "bloom": 6}
HIDDEN, HEAD_SPREAD = 32, 0.1
FIELDS_OF_2023 = {"max_length": 20, "top_k": 50, "num_beams": 1, "pruned_heads": {}, "torch_dtype": "float32"}
CORPUS = [
    "Question: how many cats are there? Answer: two cats on a red mat.",
    "a photo of a blue circle and a green square on a white table",
    "Caption the image in German. Ein roter Kreis und zwei blaue Quadrate.",
    "Briefly describe the image in Japanese. 赤い丸と青い四角。",
    "What colour is the dog? Answer: brown\n",
    "الصورة فيها دائرة حمراء",
]


def write(folder: Path, language_model: str, *, seed: int = 0, **save: Any) -> Path:
    """A checkpoint in the present layout: safetensors, `image_token_index`, `num_query_tokens` in the processor."""
    tokenizer = make_tokenizer(language_model)
    with silenced():
        make_hf_model(language_model, tokenizer, seed=seed).save_pretrained(folder, **save)
    if language_model == "opt":  # tests need the window of real ones, and few of them its positions
        (folder / "blip_space.json").write_text(json.dumps({"context_tokens": 512}), "utf-8")
    size = {"height": 28, "width": 28}
    Blip2Processor(BlipImageProcessorPil(size=size), tokenizer, QUERY_TOKENS[language_model]).save_pretrained(folder)
    return folder


def write_old(folder: Path, new: Path) -> Path:
    """The same model in the layout of 2023: neither `image_token_index` nor `num_query_tokens`.

    Its configuration names every field of the language model, as transformers saved it then.
    """
    with silenced():
        Blip2ForConditionalGeneration.from_pretrained(new).save_pretrained(folder)
    config = json.loads((new / "config.json").read_text())
    config.pop("image_token_index", None)
    config["text_config"] |= FIELDS_OF_2023
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = {"image_processor_type": "BlipImageProcessor", "size": {"height": 28, "width": 28}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((new / name).read_bytes())
    return folder


def make_hf_model(language_model: str, tokenizer: Any, *, seed: int) -> Any:
    """Random weights, large enough that images and prompts matter."""
    torch.manual_seed(seed)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28,
            patch_size=14, initializer_range=0.2,
        ),
        qformer_config=Blip2QFormerConfig(
            hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            encoder_hidden_size=HIDDEN, vocab_size=10, initializer_range=0.2,
        ),
        text_config=TEXT_CONFIGS[language_model](tokenizer),
        num_query_tokens=QUERY_TOKENS[language_model],
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        initializer_range=0.2,
    )  # fmt: skip
    hf_model = Blip2ForConditionalGeneration(config).eval()
    torch.nn.init.normal_(hf_model.query_tokens, std=0.5)
    torch.nn.init.normal_(hf_model.language_projection.weight, std=0.5)
    if hf_model.config.is_encoder_decoder:
        # untied as in T5 1.1 and mT5; small, or one token would be almost certain and sampling would be greedy
        hf_model.language_model.lm_head.weight = torch.nn.Parameter(
            hf_model.language_model.shared.weight.detach().roll(23, 0) * HEAD_SPREAD
        )
    return hf_model


def _opt(tokenizer: Any) -> OPTConfig:
    return OPTConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, word_embed_proj_dim=HIDDEN, ffn_dim=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=128, init_std=0.3, bos_token_id=2, pad_token_id=1,
        eos_token_id=tokenizer("\n", add_special_tokens=False)["input_ids"][0],
    )  # fmt: skip


def _bloom(tokenizer: Any) -> BloomConfig:
    return BloomConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, n_layer=2, n_head=2, initializer_range=0.3, bos_token_id=0,
        eos_token_id=2, pad_token_id=1,
    )  # fmt: skip


def _t5(tokenizer: Any, config_class: Any = T5Config) -> Any:
    return config_class(
        vocab_size=len(tokenizer), d_model=HIDDEN, d_kv=16, d_ff=64, num_layers=2, num_decoder_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, initializer_factor=1.5, bos_token_id=1,
        eos_token_id=1, pad_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip


TEXT_CONFIGS: dict[str, Callable[[Any], Any]] = {
    "opt": _opt,
    "bloom": _bloom,
    "t5": _t5,
    "mt5": partial(_t5, config_class=MT5Config),
}


def make_tokenizer(language_model: str) -> Any:
    """A small tokenizer like the language model's, trained here, with `<image>` as its last token."""
    rust = _sentencepiece_like() if language_model in ("t5", "mt5") else _byte_level(language_model)
    rust.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=rust, **special)


def _sentencepiece_like() -> Tokenizer:
    # the library's own trainer orders the pieces differently each time
    pieces = Counter(f"▁{word}" for line in CORPUS for word in line.split())
    letters = sorted({"▁", *string.printable.strip(), *"".join(CORPUS)})
    scored = [(piece, -8.0 / count) for piece, count in sorted(pieces.items())]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    rust = Tokenizer(models.Unigram([*special, *((letter, -10.0) for letter in letters), *scored], unk_id=2))
    rust.pre_tokenizer = pre_tokenizers.Metaspace()
    rust.decoder = decoders.Metaspace()
    rust.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return rust


def _byte_level(language_model: str) -> Tokenizer:
    rust = Tokenizer(models.BPE())
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    rust.train_from_iterator(CORPUS, trainer)
    if language_model == "opt":
        rust.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return rust
