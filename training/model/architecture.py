"""The pupil: a `Blip2ForConditionalGeneration` of the recipe's sizes, and the heads that teach its eyes.

Knows layers and tensors; knows no data, no words and no files.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    MT5Config,
)

from training.model.codebook import Codebook, entropy
from training.model.targets import ALL, CELLS, PATCH_ANSWERS, QUERIES, UNASKED
from training.recipe import Sizes

PAD, END, UNKNOWN, IMAGE = 0, 1, 2, 3
"""The first ids of the vocabulary, in T5's order; the fourth marks the image's places in a prompt."""

INITIAL = 0.06
"""The spread of fresh weights; the usual 0.02 is meant for widths five times ours and leaves attention blind."""

PATCH_SHARE = 4.0
"""The weight of what patches show, beside what the queries say."""

CENTRE, SPREAD = 0.5, 0.3
"""What pixel values are normalised with: (value - CENTRE) / SPREAD, for each channel alike."""


def build(sizes: Sizes, *, vocabulary: int, seed: int) -> Any:
    """A model with fresh weights, the same for the same seed."""
    torch.manual_seed(seed)
    # Eager attention: its bf16 backward is twice as fast on a CPU as that of fused attention.
    model = Blip2ForConditionalGeneration._from_config(_config(sizes, vocabulary), attn_implementation="eager")
    nn.init.normal_(model.query_tokens, std=0.5)  # they are created as zeros, and stay alike
    # Words have a spread of one and are the output's weights too: the last norm brings the first guesses down.
    nn.init.constant_(model.language_model.decoder.final_layer_norm.weight, sizes.text_width**-0.5)
    grid = sizes.image // sizes.patch
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding[0, 1:] = _waves(grid, sizes.vision_width)
    return model


def _waves(grid: int, width: int) -> Tensor:
    """Sines and cosines of each patch's row and column: neighbours start out alike, which random vectors are not."""
    quarter = width // 4
    speeds = math.pi * torch.logspace(-0.5, 1, quarter, base=grid / 2) / grid
    place = torch.arange(grid).float()[:, None] * speeds
    wave = torch.cat([place.sin(), place.cos()], dim=1)
    rows, columns = wave[:, None].expand(grid, grid, -1), wave[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).reshape(grid * grid, -1) * 0.7


def prefix(model: Any, pictures: Tensor) -> Tensor:
    """The vectors that stand for each picture in front of the text: (pictures, queries, text width)."""
    return report(model, look(model, pictures))


@dataclass(frozen=True)
class Look:
    """What the vision model made of pictures: its patches halfway up and at the end, (pictures, patches, width)."""

    early: Tensor
    states: Tensor
    """The last states, with the one that belongs to no patch in front."""


def look(model: Any, pictures: Tensor) -> Look:
    """The vision model on pictures of bytes (N, H, W, 3)."""
    seen = model.vision_model(normalised(pictures), output_hidden_states=True)
    early = seen.hidden_states[(len(seen.hidden_states) - 1) // 2]
    return Look(early[:, 1:], seen.last_hidden_state)


def report(model: Any, seen: Look) -> Tensor:
    """What the queries say of what was seen, in the language model's width."""
    queries = model.query_tokens.expand(len(seen.states), -1, -1).to(seen.states.dtype)
    found = model.qformer(query_embeds=queries, encoder_hidden_states=seen.states).last_hidden_state
    said: Tensor = model.language_projection(found)
    return said


def normalised(pictures: Tensor) -> Tensor:
    """Bytes (N, H, W, 3) as the vision model wants them (N, 3, H, W)."""
    return (pictures.permute(0, 3, 1, 2).float() / 255 - CENTRE) / SPREAD


class Teacher(nn.Module):
    """What corrects the eyes; gone from the finished model.

    Reports are held against the codebook. Two heads read the patches: halfway up their silhouettes, which no colour
    disturbs, and at the end what lies there.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.codebook = Codebook(sizes.text_width)
        self.patch = nn.Linear(sizes.vision_width, sum(PATCH_ANSWERS))
        self.silhouette = nn.Linear(sizes.vision_width, CELLS * CELLS)

    def loss(self, seen: Look, said: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """How far patches and queries are from the truth."""
        return self.patch_loss(seen, batch) + self.codebook.loss(said, batch["report"])

    def patch_loss(self, seen: Look, batch: dict[str, Tensor]) -> Tensor:
        """How far what the patches show is from the truth."""
        answers = sum(map(entropy, self._patches(seen), batch["patches"].unbind(-1))) / batch["patches"][..., 0].numel()
        shadows = nn.functional.binary_cross_entropy_with_logits(
            self.silhouette(seen.early).float(), batch["silhouettes"]
        )
        return PATCH_SHARE * (answers + shadows)

    @torch.no_grad()
    def patch_marks(self, seen: Look, batch: dict[str, Tensor]) -> dict[str, float]:
        """The shares of right answers of patches where something lies."""
        there = batch["patches"][..., 0] > 0
        right = [
            (logits.argmax(-1) == truth)[there]
            for logits, truth in zip(self._patches(seen), batch["patches"].unbind(-1), strict=True)
        ]
        return {name: float(right[i].float().mean()) for name, i in (("kind", 0), ("colour", 1), ("which", 3))}

    @torch.no_grad()
    def report_marks(self, said: Tensor, batch: dict[str, Tensor]) -> dict[str, float]:
        """The shares of right answers of the queries, by what they report."""
        truth = batch["report"]
        hits = torch.stack([odds.argmax(-1) for odds in self.codebook.odds(said)], dim=-1) == truth
        named = hits[..., 0] & (hits[..., 1] | (truth[..., 1] == UNASKED))
        sides = truth[:, ALL + 1 :, 0] != UNASKED
        return {
            "how many": float(hits[:, ALL, -1].float().mean()),
            "every thing": float(named[:, :ALL].all(-1).float().mean()),
            "whole report": float((hits | (truth == UNASKED)).all(-1).all(-1).float().mean()),
            "sides": float(named[:, ALL + 1 :][sides].float().mean()) if bool(sides.any()) else 1.0,
        }

    def _patches(self, seen: Look) -> tuple[Tensor, ...]:
        return self.patch(seen.states[:, 1:]).float().split(PATCH_ANSWERS, dim=-1)  # type: ignore[no-any-return]


def parts(*modules: nn.Module) -> list[dict[str, Any]]:
    """The modules' parameters in two groups: the layers' own matrices (`hidden`), and all else."""
    named = [entry for module in modules for entry in module.named_parameters()]
    inside = {id(one) for name, one in named if one.ndim == 2 and _LAYERS.search(name)}
    return [
        {"params": [one for _, one in named if id(one) in inside], "hidden": True},
        {"params": [one for _, one in named if id(one) not in inside]},
    ]


_LAYERS = re.compile(r"\b(layers?|block)\.\d+\.(?!.*relative_attention_bias)")


def _config(sizes: Sizes, vocabulary: int) -> Any:
    vision = Blip2VisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=sizes.vision_width * 3,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.heads,
        image_size=sizes.image,
        patch_size=sizes.patch,
        initializer_range=INITIAL,  # the default, 1e-10, never starts to learn
    )
    queries = Blip2QFormerConfig(
        vocab_size=1,  # its own words are never used
        hidden_size=sizes.query_width,
        encoder_hidden_size=sizes.vision_width,
        intermediate_size=sizes.query_width * 3,
        num_hidden_layers=sizes.query_layers,
        num_attention_heads=sizes.heads,
        cross_attention_frequency=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=INITIAL,
    )
    text = MT5Config(
        vocab_size=vocabulary,
        d_model=sizes.text_width,
        d_kv=sizes.text_width // sizes.text_heads,
        num_heads=sizes.text_heads,
        d_ff=sizes.text_width * 2,
        num_layers=sizes.text_layers,
        num_decoder_layers=sizes.text_layers,
        dropout_rate=0.0,
        pad_token_id=PAD,
        eos_token_id=END,
        bos_token_id=PAD,
        decoder_start_token_id=PAD,
    )
    return Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=queries.to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=QUERIES,
        image_token_index=IMAGE,
    )
