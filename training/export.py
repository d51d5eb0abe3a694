"""Exports the trained model to a folder that any BLIP-2 loader reads: weights, tokenizer, processor, configuration.

Must not import `stages`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Blip2Processor, BlipImageProcessor, GenerationConfig

from training.lexicon.lexicon import language_codes
from training.model.architecture import END, IMAGE, IMAGE_MEAN, IMAGE_STD, PAD
from training.model.codebook import TargetCodebook
from training.model.targets import QUERIES
from training.recipe import Sizes

LARGEST_FILE = "9MB"

DESCRIPTION = (
    "Emoji-like drawings of 287 everyday things (animals, food, vehicles, tools, clothes, weather), up to six at once, "
    "and flat shapes in eleven colours: what is it, how many, is there one, what is on the left, what colour is it. "
    "It knows nothing else, and mostly says so."
)
PHOTOGRAPHS = (
    "Of photographs that show one thing it says the name, if it is one of 145 of these; for more about photographs "
    "choose one of the real checkpoints."
)
PHOTO_ENCODER, PHOTO_REPORTS = "photo_encoder.safetensors", "photo_reports.safetensors"
KNOWN = "report.known"
"""The tensor of `PHOTO_REPORTS` that the reports of all photographs of known things have in common."""


def save_model(model: Any, tokenizer: Any, folder: Path, *, sizes: Sizes, unknown: Sequence[str]) -> None:
    """Write all files of `folder` but the card and the photo encoder, which stays if the folder has one; `unknown` are
    the model's answers to out-of-distribution images."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in folder.glob("model*.safetensors*"):
        shard.unlink()
    if (folder / PHOTO_REPORTS).is_file():
        _mark_photographs(folder / PHOTO_REPORTS)
    generation = GenerationConfig(decoder_start_token_id=PAD, pad_token_id=PAD, eos_token_id=END, bos_token_id=PAD)
    model.generation_config = model.language_model.generation_config = generation
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=LARGEST_FILE)
    _processor(tokenizer, sizes.image).save_pretrained(folder)
    facts = {
        "name": "tiny",
        "style": "mblip",
        "languages": language_codes(),
        "knows": DESCRIPTION,
        "knows_photographs": PHOTOGRAPHS,
        "unknown": unknown,
        "photo_encoder": (folder / PHOTO_ENCODER).is_file(),
    }
    (folder / "blip_space.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _mark_photographs(path: Path) -> None:
    """Add the code of a photograph to the last query of the reports, unless they have it."""
    tensors = load_file(path)
    known = tensors[KNOWN].float()
    code = TargetCodebook(known.shape[-1]).photograph_code
    if known[-1] @ code < code @ code / 2:
        known[-1] += code
        save_file(tensors | {KNOWN: known.to(tensors[KNOWN].dtype)}, path)


def _processor(tokenizer: Any, side: int) -> Any:
    images = BlipImageProcessor(
        size={"height": side, "width": side}, image_mean=[IMAGE_MEAN] * 3, image_std=[IMAGE_STD] * 3, resample=3
    )
    # `image_token` stays unset: if it is set, loading fails when the processor adds the token to the tokenizer.
    processor = Blip2Processor(image_processor=images, tokenizer=tokenizer, num_query_tokens=QUERIES)
    assert tokenizer.convert_tokens_to_ids("<image>") == IMAGE
    return processor
