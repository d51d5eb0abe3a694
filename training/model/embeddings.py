"""Initial word embeddings: each is the sum of a vector for the word's meaning and a vector for its language.

If the image features have the code of "dog" and the prompt names German, the model only has to add the two vectors to
get the embedding of "Hund". It still has to learn when to answer what. Must not import `tasks`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from blip_space.languages import LANGUAGES
from training.model.codebook import TargetCodebook
from training.model.vocabulary import SPACE, WordMeaning, WordMeanings

SEED = 6
MEANING, LANGUAGE, UNSPACED = 0.8, 0.6, 0.5
"""The weights of three vectors in a word's embedding: its meaning, its language, and that it has no space before it."""

EXTRA_FACTORS = {"exists": 3, "photograph": 1}
"""Factors that are in no query target, with their numbers of options: the words for no, yes and nothing, and the answer
about a photograph."""

PLAIN = 0.5
"""The weight of the vector of all pieces that occur in questions only, which keeps them out of answers."""


@torch.no_grad()
def initialize_embeddings(model: Any, tokenizer: Any, word_meanings: WordMeanings, codebook: TargetCodebook) -> None:
    """Set the model's embedding of every piece in `word_meanings`."""
    weight = model.language_model.get_input_embeddings().weight
    token_ids = tokenizer.convert_tokens_to_ids(list(word_meanings))
    weight[token_ids] = meaning_vectors(word_meanings, codebook).to(weight.device)


def meaning_vectors(word_meanings: WordMeanings, codebook: TargetCodebook) -> Tensor:
    """The initial embeddings of the pieces, (pieces, width), with a standard deviation of 1."""
    meanings, width = _meanings(codebook), codebook.option_codes.shape[1]
    generator = torch.Generator().manual_seed(SEED)
    languages = dict(zip(LANGUAGES, _unit(torch.randn(len(LANGUAGES), width, generator=generator)), strict=True))

    def meaning_vector(meaning: WordMeaning) -> Tensor:
        language: Tensor = languages[meaning.language]
        return MEANING * meanings[meaning.factor][meaning.option] + LANGUAGE * language if meaning.factor else language

    sums = [torch.stack([meaning_vector(one) for one in several]).sum(dim=0) for several in word_meanings.values()]
    unspaced = torch.tensor([not piece.startswith(SPACE) for piece in word_meanings])
    directions = _unit(torch.stack(sums)) + UNSPACED * unspaced[:, None] * unspaced_vector(width)
    is_plain = torch.tensor([any(one.is_plain for one in several) for several in word_meanings.values()])
    directions = directions + PLAIN * is_plain[:, None] * plain_vector(width)
    vectors: Tensor = _unit(directions) * width**0.5
    return vectors


def unspaced_vector(width: int) -> Tensor:
    """The unit vector that marks pieces which follow another word without a space."""
    return _unit(torch.randn(1, width, generator=torch.Generator().manual_seed(SEED + 2)))[0]


def extra_meaning(meaning: WordMeaning, codebook: TargetCodebook) -> Tensor:
    """The unit vector (width) of a meaning."""
    return _meanings(codebook)[meaning.factor][meaning.option]


def plain_vector(width: int) -> Tensor:
    """The unit vector that marks pieces which occur in questions only."""
    return _unit(torch.randn(1, width, generator=torch.Generator().manual_seed(SEED + 3)))[0]


def _meanings(codebook: TargetCodebook) -> dict[str, Tensor]:
    """A unit vector for every option, (options, width), by its factor: those of the codebook and `EXTRA_FACTORS`."""
    directions = {name: _unit(codes.cpu()) for name, codes in codebook.by_factor().items()}
    generator = torch.Generator().manual_seed(SEED + 1)
    width = codebook.option_codes.shape[1]
    extra = {name: _unit(torch.randn(count, width, generator=generator)) for name, count in EXTRA_FACTORS.items()}
    return directions | extra


def _unit(vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors, dim=-1)
