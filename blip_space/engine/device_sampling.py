"""Chooses tokens on a GPU without a wait: every result stays there, for the next step and for one copy to the host.

The rules are those of `sampling`, for all rows at once. Depends on torch only; nothing here synchronises with a GPU.
"""

from __future__ import annotations

import torch

NO_TOKEN = -1
"""Marks a row whose logits are not finite."""

UNDECIDED = -2
"""Marks a row whose token is not among the most likely ones."""

MAX_CANDIDATES = 1024
"""How many of the most likely tokens of a row are sorted."""

LOW_BITS, HALF = (1 << 32) - 1, 32


def greedy_tokens(logits: torch.Tensor) -> torch.Tensor:
    """The argmax (rows,) of logits (rows, vocabulary), or `NO_TOKEN` where it is not finite."""
    tokens = logits.argmax(dim=-1, keepdim=True)
    return torch.where(logits.gather(1, tokens).isfinite(), tokens, NO_TOKEN)[:, 0]


def nucleus_tokens(probabilities: torch.Tensor, top_p: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """For each row of float32 probabilities (rows, vocabulary), the token at which the cumulative probability of its
    nucleus, most likely tokens first, exceeds the row's number; or `NO_TOKEN`, or `UNDECIDED`.

    `top_p` and `numbers` are float64 (rows,).
    """
    values, tokens = _most_likely(probabilities)
    are_all = tokens.shape[1] == probabilities.shape[1]
    cumulative = values.double().cumsum(dim=-1)
    # 1. The token that reaches top_p is the last one of the nucleus.
    is_nucleus = top_p < 1.0
    last = (cumulative < top_p[:, None]).sum(dim=-1).clamp(max=tokens.shape[1] - 1)
    last = torch.where(is_nucleus, last, tokens.shape[1] - 1)[:, None]
    mass = cumulative.gather(1, last)[:, 0]
    # 2. Whether there are enough candidates to decide.
    is_decided = (mass >= top_p) | ((top_p >= 1.0) & (mass > numbers)) | are_all
    # 3. The token at which the number is exceeded.
    target = numbers * torch.where(is_nucleus | are_all, mass, 1.0)
    index = (cumulative <= target[:, None]).sum(dim=-1, keepdim=True)
    chosen = tokens.gather(1, torch.minimum(last, index))[:, 0]
    return torch.where(values[:, 0].isfinite(), torch.where(is_decided, chosen, UNDECIDED), NO_TOKEN)


def _most_likely(probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The most likely tokens of each row with their probabilities, both (rows, candidates): by falling probability,
    then by token. The bits of positive floats have the order of the floats."""
    keys = probabilities.view(torch.int32).long() << HALF
    keys += LOW_BITS - torch.arange(probabilities.shape[1], device=probabilities.device)
    best = keys.topk(min(MAX_CANDIDATES, probabilities.shape[1]), dim=-1)[0]
    return (best >> HALF).int().view(torch.float32), LOW_BITS - (best & LOW_BITS)
