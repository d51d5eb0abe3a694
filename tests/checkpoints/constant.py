"""A checkpoint that generates one token forever, whatever the image, as real ones do for some images."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from tests.checkpoints import blip2

OFFSET = 2
"""OPT's first position in its table."""

SPACE = "Ġ"
"""A space in the small byte-level tokenizer's vocabulary."""


def write_constant(folder: Path, token: str, *, positions: int = 128) -> Path:
    """An OPT checkpoint whose output head, which is tied to its embeddings, always prefers that token."""
    blip2.write(folder, "opt")
    token_id = PreTrainedTokenizerFast.from_pretrained(folder).convert_tokens_to_ids(token)
    assert token_id is not None
    weights = load_file(folder / "model.safetensors")
    embedding = weights["language_model.model.decoder.embed_tokens.weight"][token_id]
    norm = "language_model.model.decoder.final_layer_norm"
    weights[f"{norm}.weight"] *= 0.2  # so that other tokens win with a repetition penalty of 2
    weights[f"{norm}.bias"] = embedding / embedding.norm() * 2
    name = "language_model.model.decoder.embed_positions.weight"
    weights[name] = weights[name].repeat(positions // 128 + 1, 1)[: positions + OFFSET]
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_config"]["max_position_embeddings"] = positions
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(
        {key: value.contiguous() for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder
