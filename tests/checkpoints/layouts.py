"""One model in every layout in which BLIP-2 checkpoints were ever published, made from the present one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from sentencepiece import SentencePieceTrainer
from transformers import Blip2ForConditionalGeneration

from blip_space.loading.library_logging import silenced
from tests.checkpoints import blip2

SLOW = {"t5", "mt5", "opt"}
"""The language models whose tokenizers were published without `tokenizer.json`."""

LAYOUTS = ("2023", "2023 with a slow tokenizer", "2024", "sharded", "stored in bf16", "larger images")
MATRIX = [
    (family, layout) for family in blip2.LANGUAGE_MODELS for layout in LAYOUTS if "slow" not in layout or family in SLOW
]


def write(folder: Path, base: Path, language_model: str, layout: str) -> Path:
    """A copy of the checkpoint `base` in that layout."""
    if layout.startswith("2023"):
        blip2.write_old(folder, base)
        if "slow" in layout:
            _slow_tokenizer(folder, language_model)
        return folder
    shutil.copytree(base, folder)
    if layout in ("sharded", "stored in bf16"):
        (folder / "model.safetensors").unlink()
        hf_model = Blip2ForConditionalGeneration.from_pretrained(base)
        with silenced():
            if layout == "sharded":
                hf_model.save_pretrained(folder, max_shard_size="50KB")
            else:
                hf_model.to(torch.bfloat16).save_pretrained(folder)
    if layout == "larger images":
        _larger_images(folder)
    return folder


def _slow_tokenizer(folder: Path, language_model: str) -> None:
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    if language_model == "opt":
        (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]), "utf-8")
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), "utf-8")
        return
    letters = " ".join(piece for piece, _ in content["model"]["vocab"] if len(piece) == 1 and piece.isascii())
    SentencePieceTrainer.train(
        sentence_iterator=iter([*blip2.CORPUS, letters] * 20),
        model_prefix=str(folder / "spiece"),
        vocab_size=150,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )


def _larger_images(folder: Path) -> None:
    """As in the fine-tunes on COCO, with more positions for more patches."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config["vision_config"]["image_size"] = 42
    (folder / "config.json").write_text(json.dumps(config))
    with silenced():
        hf_model = Blip2ForConditionalGeneration.from_pretrained(folder, ignore_mismatched_sizes=True)
        torch.manual_seed(3)
        torch.nn.init.normal_(hf_model.vision_model.embeddings.position_embedding, std=0.2)
        hf_model.save_pretrained(folder)
