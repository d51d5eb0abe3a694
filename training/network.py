"""The pupil: a `Blip2ForConditionalGeneration` of the recipe's sizes, and the heads that teach its eyes.

Knows layers and tensors; knows no data, no words and no files.
"""

from __future__ import annotations

import math
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

from training.colours import COLOURS
from training.recipe import Sizes
from training.scenes import SHAPES
from training.targets import ANSWERS, CELLS, GROUPS, MOST_CENTRES, QUERIES, TALLIES, UNASKED

PAD, END, UNKNOWN, IMAGE = 0, 1, 2, 3
"""The first ids of the vocabulary, in T5's order; the fourth marks the image's places in a prompt."""

NAMES = [len(SHAPES), len(COLOURS)]
PATCH_ANSWERS = [len(SHAPES) + 1, len(COLOURS) + 1, MOST_CENTRES + 1]

INITIAL = 0.06
"""The spread of fresh weights; the usual 0.02 is meant for widths five times ours and leaves attention blind."""

BADGE = 8.0
"""Every query wears its number: of its first numbers, one a query, its own is this large and the others are nothing.

Without it the reports of two queries differ only in what they say, and no reader can tell circles' from stars'.
"""

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
    return project(model, look(model, pictures).found)


@dataclass(frozen=True)
class Look:
    """What the queries found in pictures, and the patches early on and at the end."""

    found: Tensor
    early: Tensor
    patches: Tensor


def look(model: Any, pictures: Tensor) -> Look:
    """The eyes on pictures of bytes (N, H, W, 3)."""
    seen = model.vision_model(normalised(pictures), output_hidden_states=True)
    early = seen.hidden_states[(len(seen.hidden_states) - 1) // 2]
    return Look(gather(model, seen.last_hidden_state), early[:, 1:], seen.last_hidden_state[:, 1:])


def gather(model: Any, states: Tensor) -> Tensor:
    """What the queries find in the vision model's last states."""
    queries = model.query_tokens.expand(len(states), -1, -1).to(states.dtype)
    found: Tensor = model.qformer(query_embeds=queries, encoder_hidden_states=states).last_hidden_state
    return found


def project(model: Any, found: Tensor) -> Tensor:
    """What the queries found, in the language model's width."""
    projected: Tensor = model.language_projection(found)
    return projected


def normalised(pictures: Tensor) -> Tensor:
    """Bytes (N, H, W, 3) as the vision model wants them (N, 3, H, W)."""
    return (pictures.permute(0, 3, 1, 2).float() / 255 - CENTRE) / SPREAD


class Teacher(nn.Module):
    """Heads that read counts and places off the query tokens; gone from the finished model.

    One head serves all counting queries and one all places, so every query says the same thing in the same way. Two
    more read the patches: halfway up their silhouettes, which no colour disturbs, and at the end what lies there.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.count = nn.Linear(sizes.text_width, TALLIES * ANSWERS)
        self.name = nn.Linear(sizes.text_width, sum(NAMES))
        self.patch = nn.Linear(sizes.vision_width, sum(PATCH_ANSWERS))
        self.silhouette = nn.Linear(sizes.vision_width, CELLS * CELLS)

    def loss(self, seen: Look, prefix: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """How far the eyes' report on a batch, and each patch's, is from the truth."""
        patches = sum(map(_entropy, self._patches(seen), batch["patches"].unbind(-1))) / len(prefix) / 8
        shadows = nn.functional.binary_cross_entropy_with_logits(
            self.silhouette(seen.early).float(), batch["silhouettes"]
        )
        return self.report_loss(prefix, batch) + patches + 20 * shadows

    def report_loss(self, prefix: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """How far the queries' report is from the truth."""
        counts = _entropy(self._counts(prefix), batch["counts"]) / 8
        names = sum(map(_entropy, self._names(prefix), batch["sides"].unbind(-1))) / 4
        badges = prefix[..., :QUERIES].float() - BADGE * torch.eye(QUERIES, device=prefix.device)
        return (counts + names) / len(prefix) + badges.square().mean()

    @torch.no_grad()
    def marks(self, seen: Look, prefix: Tensor, batch: dict[str, Tensor]) -> dict[str, float]:
        """The shares of right answers, by what was asked."""
        hits = self._counts(prefix).argmax(-1) == batch["counts"]
        shape, colour = (
            logits.argmax(-1) == truth
            for logits, truth in zip(self._names(prefix), batch["sides"].unbind(-1), strict=True)
        )
        asked = batch["sides"][..., 0] != UNASKED
        there = batch["patches"][..., 0] > 0
        patches = self._patches(seen)[0].argmax(-1) == batch["patches"][..., 0]
        return {
            "how many": float(hits[:, -1, -1].float().mean()),
            "every count": float(hits.all(-1).all(-1).float().mean()),
            "place": float((shape & colour)[asked].float().mean()) if bool(asked.any()) else 1.0,
            "shape of a patch": float(patches[there].float().mean()),
        }

    def _counts(self, prefix: Tensor) -> Tensor:
        return self.count(prefix[:, : len(GROUPS)]).float().unflatten(-1, (TALLIES, ANSWERS))  # type: ignore[no-any-return]

    def _names(self, prefix: Tensor) -> tuple[Tensor, ...]:
        return self.name(prefix[:, len(GROUPS) :]).float().split(NAMES, dim=-1)  # type: ignore[no-any-return]

    def _patches(self, seen: Look) -> tuple[Tensor, ...]:
        return self.patch(seen.patches).float().split(PATCH_ANSWERS, dim=-1)  # type: ignore[no-any-return]


def _entropy(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=UNASKED, reduction="sum")


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
        d_kv=sizes.text_width // sizes.heads,
        num_heads=sizes.heads,
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
