"""The model, a `Blip2ForConditionalGeneration` of the recipe's sizes, and its auxiliary heads for images.

Must not import `scenes`, `lexicon` or `tasks`.
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

from training.model.codebook import TargetCodebook, summed_cross_entropy
from training.model.targets import CELLS, COUNT_QUERY, IGNORE_INDEX, PATCH_TARGETS, QUERIES
from training.recipe import Sizes

PAD, END, UNKNOWN, IMAGE = 0, 1, 2, 3
"""The first ids of the vocabulary, in T5's order; the fourth is the image placeholder token."""

INITIALIZER_RANGE = 0.06
"""The standard deviation of initial weights. With the usual 0.02, for five times our widths, attention is uniform."""

PATCH_LOSS_WEIGHT = 4.0
"""The weight of the patch losses; the loss of the queries has weight 1."""

IMAGE_MEAN, IMAGE_STD = 0.5, 0.3
"""The mean and standard deviation by which pixel values are normalized, the same for all channels."""


def build(sizes: Sizes, *, vocabulary: int, seed: int) -> Any:
    """A new model for `vocabulary` tokens. Its weights are random, and the same for the same `seed`."""
    torch.manual_seed(seed)
    # On a CPU the backward pass of eager attention in bf16 is twice as fast as that of fused attention.
    model = Blip2ForConditionalGeneration._from_config(_config(sizes, vocabulary), attn_implementation="eager")
    nn.init.normal_(model.query_tokens, std=0.5)  # the initial zeros would keep all queries equal
    # Embeddings have a standard deviation of 1 and are tied to the output layer: the last norm scales the logits down.
    nn.init.constant_(model.language_model.decoder.final_layer_norm.weight, sizes.text_width**-0.5)
    grid = sizes.image // sizes.patch
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding[0, 1:] = _sinusoids(grid, sizes.vision_width)
    return model


def _sinusoids(grid: int, width: int) -> Tensor:
    """Position embeddings (patches, width): sines and cosines of row and column, so adjacent patches are similar."""
    quarter = width // 4
    frequencies = math.pi * torch.logspace(-0.5, 1, quarter, base=grid / 2) / grid
    phases = torch.arange(grid).float()[:, None] * frequencies
    waves = torch.cat([phases.sin(), phases.cos()], dim=1)
    rows, columns = waves[:, None].expand(grid, grid, -1), waves[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).reshape(grid * grid, -1) * 0.7


def image_features(model: Any, images: Tensor) -> Tensor:
    """The image features (N, queries, text width) of images as bytes (N, H, W, 3); they precede the text embeddings."""
    return run_qformer(model, encode_images(model, images))


@dataclass(frozen=True)
class VisionOutputs:
    """The vision encoder's hidden states (N, patches, width): `early` after half of its layers, `states` after all."""

    early: Tensor
    states: Tensor
    """The final states; the first one is the class token's, the patches follow."""


def encode_images(model: Any, images: Tensor) -> VisionOutputs:
    """Run the vision encoder on `images`, which are bytes (N, H, W, 3)."""
    outputs = model.vision_model(normalize(images), output_hidden_states=True)
    early = outputs.hidden_states[(len(outputs.hidden_states) - 1) // 2]
    return VisionOutputs(early[:, 1:], outputs.last_hidden_state)


def run_qformer(model: Any, outputs: VisionOutputs) -> Tensor:
    """Run the Q-Former; returns the query outputs projected to the language model's width, (N, queries, text width)."""
    queries = model.query_tokens.expand(len(outputs.states), -1, -1).to(outputs.states.dtype)
    hidden = model.qformer(query_embeds=queries, encoder_hidden_states=outputs.states).last_hidden_state
    query_outputs: Tensor = model.language_projection(hidden)
    return query_outputs


def normalize(images: Tensor) -> Tensor:
    """Convert `images`, which are bytes (N, H, W, 3), to normalized pixel values (N, 3, H, W)."""
    return (images.permute(0, 3, 1, 2).float() / 255 - IMAGE_MEAN) / IMAGE_STD


class AuxiliaryHeads(nn.Module):
    """The auxiliary losses of the vision encoder and the Q-Former; not part of the exported model.

    Query outputs are compared with the codebook. Of the two patch heads, `silhouette` predicts a patch's coverage from
    early states, independently of colour, and `patch` its object from final states. Checkpoints have these names.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.codebook = TargetCodebook(sizes.text_width)
        self.patch = nn.Linear(sizes.vision_width, sum(PATCH_TARGETS))
        self.silhouette = nn.Linear(sizes.vision_width, CELLS * CELLS)

    def loss(self, outputs: VisionOutputs, query_outputs: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The loss of the patches plus the loss of the queries."""
        return self.patch_loss(outputs, batch) + self.codebook.loss(query_outputs, batch["query_targets"])

    def patch_loss(self, outputs: VisionOutputs, batch: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses of the two patch heads."""
        targets = batch["patch_targets"]
        object_loss = sum(map(summed_cross_entropy, self._patch_logits(outputs), targets.unbind(-1)))
        coverage_logits = self.silhouette(outputs.early).float()
        coverage_loss = nn.functional.binary_cross_entropy_with_logits(coverage_logits, batch["coverage"])
        return PATCH_LOSS_WEIGHT * (object_loss / targets[..., 0].numel() + coverage_loss)

    @torch.no_grad()
    def patch_scores(self, outputs: VisionOutputs, batch: dict[str, Tensor]) -> dict[str, float]:
        """The accuracy for patches with an object: its kind, colour, and position in reading order ("which")."""
        is_object = batch["patch_targets"][..., 0] > 0
        correct = [
            (logits.argmax(-1) == expected)[is_object]
            for logits, expected in zip(self._patch_logits(outputs), batch["patch_targets"].unbind(-1), strict=True)
        ]
        return {name: float(correct[i].float().mean()) for name, i in (("kind", 0), ("colour", 1), ("which", 3))}

    @torch.no_grad()
    def query_scores(self, query_outputs: Tensor, batch: dict[str, Tensor]) -> dict[str, float]:
        """The accuracies of the number of objects, of all objects at once, of all targets at once, and of the sides."""
        expected = batch["query_targets"]
        predicted = torch.stack([logits.argmax(-1) for logits in self.codebook.logits(query_outputs)], dim=-1)
        correct = predicted == expected
        kind_and_colour = correct[..., 0] & (correct[..., 1] | (expected[..., 1] == IGNORE_INDEX))
        sides = expected[:, COUNT_QUERY + 1 :, 0] != IGNORE_INDEX
        return {
            "how many": float(correct[:, COUNT_QUERY, -1].float().mean()),
            "all objects": float(kind_and_colour[:, :COUNT_QUERY].all(-1).float().mean()),
            "all targets": float((correct | (expected == IGNORE_INDEX)).all(-1).all(-1).float().mean()),
            "sides": float(kind_and_colour[:, COUNT_QUERY + 1 :][sides].float().mean()) if bool(sides.any()) else 1.0,
        }

    def _patch_logits(self, outputs: VisionOutputs) -> tuple[Tensor, ...]:
        return self.patch(outputs.states[:, 1:]).float().split(PATCH_TARGETS, dim=-1)  # type: ignore[no-any-return]


def parameter_groups(*modules: nn.Module) -> list[dict[str, Any]]:
    """Optimizer groups of the modules' parameters: the matrices of the layers, marked `hidden`, and all others."""
    named = [entry for module in modules for entry in module.named_parameters()]
    matrices = {id(parameter) for name, parameter in named if parameter.ndim == 2 and _LAYER_NAME.search(name)}
    return [
        {"params": [parameter for _, parameter in named if id(parameter) in matrices], "hidden": True},
        {"params": [parameter for _, parameter in named if id(parameter) not in matrices]},
    ]


_LAYER_NAME = re.compile(r"\b(layers?|block)\.\d+\.(?!.*relative_attention_bias)")


def _config(sizes: Sizes, vocabulary: int) -> Any:
    vision = Blip2VisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=sizes.vision_width * 3,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.heads,
        image_size=sizes.image,
        patch_size=sizes.patch,
        initializer_range=INITIALIZER_RANGE,  # with the default, 1e-10, training does not start
    )
    queries = Blip2QFormerConfig(
        vocab_size=1,  # its own embeddings are unused
        hidden_size=sizes.query_width,
        encoder_hidden_size=sizes.vision_width,
        intermediate_size=sizes.query_width * 3,
        num_hidden_layers=sizes.query_layers,
        num_attention_heads=sizes.heads,
        cross_attention_frequency=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=INITIALIZER_RANGE,
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
