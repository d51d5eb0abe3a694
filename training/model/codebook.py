"""The codebook of the query targets: one fixed vector, a code, for every option of every factor and for every query.

A query output's target is the sum of the codes of its options and its query. Codes are fixed, so the language model can
train on encoded targets while the image stages learn to output them. Must not import `scenes` or `architecture`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.model.targets import FACTORS, IGNORE_INDEX, QUERIES

SEED = 5
CODE_NORM = 6.0
"""The norm of a code, about half that of a word embedding (whose standard deviation is 1, so its norm about 12)."""

TEMPERATURE = 4.0
"""The logit of an option is the dot product of a vector and the option's code, divided by this number."""


class TargetCodebook(nn.Module):
    """The codes for the text width `width`. They are constant and follow from a seed, so there is nothing to train."""

    def __init__(self, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(SEED)
        num_kinds, num_others = FACTORS["kind"], QUERIES + sum(FACTORS.values()) - FACTORS["kind"]
        # All codes are orthogonal except those of the kinds, which are too many and share the remaining dimensions.
        axes = nn.init.orthogonal_(torch.empty(width, width), generator=generator)
        kinds = torch.randn(num_kinds, width - num_others, generator=generator) @ axes[num_others:]
        others = axes[:num_others]
        vectors = CODE_NORM * nn.functional.normalize(torch.cat([others[:QUERIES], kinds, others[QUERIES:]]), dim=-1)
        self.query_codes: Tensor
        self.option_codes: Tensor
        photograph = nn.functional.normalize(torch.randn(width - num_others, generator=generator), dim=0)
        self.photograph_code: Tensor
        self.register_buffer("photograph_code", CODE_NORM * photograph @ axes[num_others:], persistent=False)
        self.register_buffer("query_codes", vectors[:QUERIES], persistent=False)
        self.register_buffer("option_codes", vectors[QUERIES:], persistent=False)

    def by_factor(self) -> dict[str, Tensor]:
        """The codes of the options of each factor, (options, width), by the factor's name."""
        return dict(zip(FACTORS, torch.split(self.option_codes, list(FACTORS.values())), strict=True))

    def encode(self, targets: Tensor, photographs: Tensor | None = None) -> Tensor:
        """Encode targets (N, queries, factors) as vectors (N, queries, width); ignored targets add nothing.

        Of `photographs` (N), those that are 1 add the code of a photograph to the last query's vector.
        """
        offsets = torch.tensor([0, *FACTORS.values()][:-1], device=targets.device).cumsum(0)
        has_target = (targets != IGNORE_INDEX).unsqueeze(-1)
        vectors = self.option_codes[(targets + offsets).clamp(min=0)] * has_target
        encoded = vectors.sum(dim=2) + self.query_codes
        if photographs is not None:
            encoded[:, -1] += photographs.to(encoded.dtype)[:, None] * self.photograph_code
        return encoded

    def logits(self, vectors: Tensor) -> list[Tensor]:
        """The logits (N, queries, options) of each factor, for vectors (N, queries, width)."""
        logits = vectors.float() @ self.option_codes.T / TEMPERATURE
        return list(torch.split(logits, list(FACTORS.values()), dim=-1))

    def loss(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """The mean cross entropy of the options plus the mean squared distance of `vectors` to the encoded targets."""
        total: Any = sum(map(summed_cross_entropy, self.logits(vectors), targets.unbind(-1)))
        cross_entropy = total / (targets != IGNORE_INDEX).sum().clamp(min=1)
        has_target = (targets != IGNORE_INDEX).any(dim=-1)
        distance = (vectors.float() - self.encode(targets)).square().mean(-1)
        return cross_entropy + (distance * has_target).sum() / has_target.sum().clamp(min=1)  # type: ignore[no-any-return]


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The cross entropy, summed over all targets that are not `IGNORE_INDEX`."""
    return nn.functional.cross_entropy(
        logits.float().flatten(0, -2), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
