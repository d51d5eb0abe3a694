"""What the words' embeddings start as: the sum of what a word means, in the code of the reports, and of its language.

A model that reads "dog" in the code and is asked in German has then only to add the two to have said "Hund"; what
remains to be learned is when to say what. Knows senses and vectors; knows no lesson.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from blip_space.languages import LANGUAGES
from training.model.codebook import Codebook
from training.model.vocabulary import SPACE, Sense, Senses

SEED = 6
MEANING, LANGUAGE, GLUED = 0.8, 0.6, 0.5
"""The shares in a word's vector of what it means, of its language, and of being written without a space before it."""

OWN_FACTORS = {"exists": 3}
"""Words that no report holds: no, yes, nothing."""


@torch.no_grad()
def begin(model: Any, tokenizer: Any, senses: Senses, codebook: Codebook) -> None:
    """Set the embedding of every piece that has a meaning."""
    weight = model.language_model.get_input_embeddings().weight
    numbers = tokenizer.convert_tokens_to_ids(list(senses))
    weight[numbers] = meaning_vectors(senses, codebook).to(weight.device)


def meaning_vectors(senses: Senses, codebook: Codebook) -> Tensor:
    """What each piece means, (pieces, width), with a spread of one."""
    meanings, width = _meanings(codebook), codebook.codes.shape[1]
    dice = torch.Generator().manual_seed(SEED)
    grammars = dict(zip(LANGUAGES, _unit(torch.randn(len(LANGUAGES), width, generator=dice)), strict=True))

    def said(sense: Sense) -> Tensor:
        grammar: Tensor = grammars[sense.language]
        return MEANING * meanings[sense.factor][sense.option] + LANGUAGE * grammar if sense.factor else grammar

    sums = _unit(
        torch.stack([torch.stack([said(sense) for sense in referents]).sum(dim=0) for referents in senses.values()])
    )
    glued = torch.tensor([not piece.startswith(SPACE) for piece in senses])
    vectors: Tensor = _unit(sums + GLUED * glued[:, None] * glue_vector(width)) * width**0.5
    return vectors


def glue_vector(width: int) -> Tensor:
    """The direction of words that are written onto what is before them."""
    return _unit(torch.randn(1, width, generator=torch.Generator().manual_seed(SEED + 2)))[0]


def _meanings(codebook: Codebook) -> dict[str, Tensor]:
    """A direction for every option of every factor that words name."""
    found = {name: _unit(codes.cpu()) for name, codes in codebook.by_factor().items()}
    dice = torch.Generator().manual_seed(SEED + 1)
    width = codebook.codes.shape[1]
    own = {name: _unit(torch.randn(count, width, generator=dice)) for name, count in OWN_FACTORS.items()}
    return found | own


def _unit(vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors, dim=-1)
