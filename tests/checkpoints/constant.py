"""A checkpoint that writes one token for ever, whatever it is shown, as real ones do for some pictures."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from tests.checkpoints import blip2

SPACE = "Ġ"
"""How the small byte-level tokenizer writes a space."""


def write_constant(folder: Path, token: str) -> Path:
    """An OPT checkpoint whose head, which is its embeddings, has one answer: that token of its tokenizer."""
    blip2.write(folder, "opt")
    answer = PreTrainedTokenizerFast.from_pretrained(folder).convert_tokens_to_ids(token)
    assert answer is not None
    weights = load_file(folder / "model.safetensors")
    row = weights["language_model.model.decoder.embed_tokens.weight"][answer]
    norm = "language_model.model.decoder.final_layer_norm"
    weights[f"{norm}.weight"] *= 0.2  # so that a repetition penalty of 2 brings other tokens forward
    weights[f"{norm}.bias"] = row / row.norm() * 2
    save_file(
        {key: value.contiguous() for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder
