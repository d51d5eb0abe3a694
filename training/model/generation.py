"""Asking the model: pictures and prompts in, words out, along the road that serving takes.

The picture's vectors go in front of the prompt's embeddings and the language model answers greedily. Knows no scene
and no right answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.model.architecture import prefix

BATCH, MOST_TOKENS = 64, 48


@torch.no_grad()
def greedy(model: Any, tokenizer: Any, pictures: Tensor, prompts: Sequence[str]) -> list[str]:
    """The model's answer to each prompt on its picture (bytes, N x H x W x 3)."""
    device = next(model.parameters()).device
    seen = torch.cat([prefix(model, part.to(device)) for part in torch.split(pictures, BATCH)])
    return answered(model, tokenizer, seen, prompts)


@torch.no_grad()
def answered(model: Any, tokenizer: Any, seen: Tensor, prompts: Sequence[str]) -> list[str]:
    """The language model's answer to each prompt behind its picture's vectors (N, queries, text width)."""
    said: list[str] = []
    for start in range(0, len(prompts), BATCH):
        part = slice(start, start + BATCH)
        said += _answered(model, tokenizer, seen[part], prompts[part])
    return said


def _answered(model: Any, tokenizer: Any, seen: Tensor, prompts: Sequence[str]) -> list[str]:
    encoded = tokenizer(list(prompts), padding=True, return_tensors="pt").to(seen.device)
    words = model.language_model.get_input_embeddings()(encoded.input_ids)
    ones = torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device)
    tokens = model.language_model.generate(
        inputs_embeds=torch.cat([seen.to(words.dtype), words], dim=1),
        attention_mask=torch.cat([ones, encoded.attention_mask], dim=1),
        max_new_tokens=MOST_TOKENS,
        do_sample=False,
    )
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
