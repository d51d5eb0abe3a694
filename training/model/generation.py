"""Greedy generation as in serving: image features precede the prompt. Must not import `scenes` or `tasks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.model.architecture import image_features

BATCH, MAX_NEW_TOKENS = 64, 48


@torch.no_grad()
def generate(model: Any, tokenizer: Any, images: Tensor, prompts: Sequence[str]) -> list[str]:
    """The model's answer to each of N prompts about the image of the same index; `images` are bytes (N, H, W, 3)."""
    device = next(model.parameters()).device
    features = torch.cat([image_features(model, batch.to(device)) for batch in torch.split(images, BATCH)])
    return generate_from_features(model, tokenizer, features, prompts)


@torch.no_grad()
def generate_from_features(model: Any, tokenizer: Any, features: Tensor, prompts: Sequence[str]) -> list[str]:
    """The language model's answer to each of N prompts, given image features (N, queries, text width)."""
    answers: list[str] = []
    for start in range(0, len(prompts), BATCH):
        batch = slice(start, start + BATCH)
        answers += _generate_batch(model, tokenizer, features[batch], prompts[batch])
    return answers


def _generate_batch(model: Any, tokenizer: Any, features: Tensor, prompts: Sequence[str]) -> list[str]:
    encoded = tokenizer(list(prompts), padding=True, return_tensors="pt").to(features.device)
    embeddings = model.language_model.get_input_embeddings()(encoded.input_ids)
    image_mask = torch.ones(features.shape[:2], dtype=torch.long, device=features.device)
    tokens = model.language_model.generate(
        inputs_embeds=torch.cat([features.to(embeddings.dtype), embeddings], dim=1),
        attention_mask=torch.cat([image_mask, encoded.attention_mask], dim=1),
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
    )
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
