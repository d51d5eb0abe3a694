"""The code that the eyes report in: one fixed vector for every option of every factor, and a badge for every query.

A report is the sum of its codes. Since the code is agreed beforehand, the language model learns to read reports that
were never seen while the eyes learn to write them, both at the same time. Knows vectors; knows no scene and no model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.model.targets import FACTORS, QUERIES, UNASKED

SEED = 5
LOUDNESS = 6.0
"""The length of a code; a badge's too. Words have a spread of one, so twelve or so in our widths."""

SHARPNESS = 4.0
"""What the dot product with a code is divided by, for the odds of its option."""


class Codebook(nn.Module):
    """The code for a text width. It has no weights: the vectors follow from a seed, and stay."""

    def __init__(self, width: int) -> None:
        super().__init__()
        dice = torch.Generator().manual_seed(SEED)
        kinds, small = FACTORS["kind"], QUERIES + sum(FACTORS.values()) - FACTORS["kind"]
        # What is small lies at right angles to all else; the many kinds share the room that is left.
        axes = nn.init.orthogonal_(torch.empty(width, width), generator=dice)
        crowd = torch.randn(kinds, width - small, generator=dice) @ axes[small:]
        few = axes[:small]
        vectors = LOUDNESS * nn.functional.normalize(torch.cat([few[:QUERIES], crowd, few[QUERIES:]]), dim=-1)
        self.badges: Tensor
        self.codes: Tensor
        self.register_buffer("badges", vectors[:QUERIES], persistent=False)
        self.register_buffer("codes", vectors[QUERIES:], persistent=False)

    def by_factor(self) -> dict[str, Tensor]:
        """The codes of every factor's options, (options, width)."""
        return dict(zip(FACTORS, torch.split(self.codes, list(FACTORS.values())), strict=True))

    def written(self, report: Tensor) -> Tensor:
        """Reports (N, queries, factors) as vectors (N, queries, width); what is unasked adds nothing."""
        starts = torch.tensor([0, *FACTORS.values()][:-1], device=report.device).cumsum(0)
        known = (report != UNASKED).unsqueeze(-1)
        vectors = self.codes[(report + starts).clamp(min=0)] * known
        return vectors.sum(dim=2) + self.badges

    def odds(self, vectors: Tensor) -> list[Tensor]:
        """The logits of every factor's options in vectors (N, queries, width)."""
        logits = vectors.float() @ self.codes.T / SHARPNESS
        return list(torch.split(logits, list(FACTORS.values()), dim=-1))

    def loss(self, vectors: Tensor, report: Tensor) -> Tensor:
        """How far vectors are from saying the reports: the odds against the truth, and the distance from its code."""
        answers = report.unbind(-1)
        surprise: Any = sum(map(entropy, self.odds(vectors), answers)) / (report != UNASKED).sum().clamp(min=1)
        asked = (report != UNASKED).any(dim=-1)
        distance = (vectors.float() - self.written(report)).square().mean(-1)
        return surprise + (distance * asked).sum() / asked.sum().clamp(min=1)  # type: ignore[no-any-return]


def entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The summed cross entropy of everything that is asked."""
    return nn.functional.cross_entropy(
        logits.float().flatten(0, -2), target.flatten(), ignore_index=UNASKED, reduction="sum"
    )
