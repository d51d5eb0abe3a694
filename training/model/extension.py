"""Extends a trained model's vocabulary by the lexicon words that it lacks, so a run can continue with more words.

A new word's embedding starts from the trained ones of the same meaning in the same language. Must not import `tasks`.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from training.model.codebook import TargetCodebook
from training.model.embeddings import LANGUAGE, MEANING, PLAIN, UNSPACED, extra_meaning, plain_vector, unspaced_vector
from training.model.tokenizer import WORD_SCORE
from training.model.vocabulary import SPACE, WordMeaning, WordMeanings


def extended_tokenizer(tokenizer_json: str, word_meanings: WordMeanings) -> str:
    """The tokenizer's JSON with every word of `word_meanings`; the ids of the pieces that it has stay the same."""
    contents = json.loads(tokenizer_json)
    vocabulary: list[list[Any]] = contents["model"]["vocab"]
    known = {piece for piece, _ in vocabulary}
    vocabulary += [[piece, WORD_SCORE] for piece in word_meanings if piece not in known]
    return json.dumps(contents, ensure_ascii=False)


@torch.no_grad()
def extend_weights(weights: dict[str, Tensor], tokenizer: Any, word_meanings: WordMeanings) -> dict[str, Tensor]:
    """The model's weights with an embedding for every piece of `tokenizer`; those that exist stay the same."""
    names = [name for name in weights if name.endswith(("shared.weight", "embed_tokens.weight", "lm_head.weight"))]
    trained = weights[names[0]]
    if len(trained) == len(tokenizer):
        return weights
    pieces = tokenizer.convert_ids_to_tokens(range(len(trained), len(tokenizer)))
    rows = _Rows(trained, tokenizer, word_meanings)
    extended = torch.cat([trained, torch.stack([rows.new(piece) for piece in pieces])])
    return {**weights, **dict.fromkeys(names, extended)}


class _Rows:
    """Makes embeddings for new pieces out of the trained ones."""

    def __init__(self, trained: Tensor, tokenizer: Any, word_meanings: WordMeanings) -> None:
        self.trained, self.word_meanings = trained, word_meanings
        self.codebook = TargetCodebook(trained.shape[1])
        self.by_meaning: dict[WordMeaning, int] = {}
        self.by_language: dict[str, list[int]] = {}
        for piece, meanings in word_meanings.items():
            token_id = tokenizer.convert_tokens_to_ids(piece)
            if token_id < len(trained) and piece.startswith(SPACE):
                for meaning in meanings:
                    self.by_meaning[meaning] = token_id
                    self.by_language.setdefault(meaning.language, []).append(token_id)

    def new(self, piece: str) -> Tensor:
        """The embedding of a new piece; its norm is that of a trained one."""
        width = self.trained.shape[1]
        meanings = self.word_meanings[piece]
        direction = _unit(torch.stack([_unit(self._meaning(meaning)) for meaning in meanings]).sum(dim=0))
        if any(meaning.is_plain for meaning in meanings):
            direction = direction + PLAIN * plain_vector(width)
        if not piece.startswith(SPACE):
            direction = direction + UNSPACED * unspaced_vector(width)
        row: Tensor = _unit(direction) * width**0.5
        return row

    def _meaning(self, meaning: WordMeaning) -> Tensor:
        token_id = self.by_meaning.get(WordMeaning(meaning.factor, meaning.option, meaning.language))
        if token_id is not None:
            return self.trained[token_id]
        language = self.trained[self.by_language[meaning.language]].mean(dim=0)
        return LANGUAGE * _unit(language) + MEANING * extra_meaning(meaning, self.codebook)


def _unit(vector: Tensor) -> Tensor:
    return nn.functional.normalize(vector, dim=-1)


@torch.no_grad()
def restore_unspaced(embeddings: Tensor, trained: Tensor, pieces: list[str], word_meanings: WordMeanings) -> Tensor:
    """The embeddings (pieces, width) with those that `trained` had of lexicon words without a space before them.

    Only lists have such words, and the plain run has few lists, so its loss only makes them less likely. They get the
    mean change of the words with a space. `pieces` are those of `trained`, the first ones of `embeddings`.
    """
    spaced = [i for i, piece in enumerate(pieces) if piece in word_meanings and piece.startswith(SPACE)]
    unspaced = [i for i, piece in enumerate(pieces) if piece in word_meanings and not piece.startswith(SPACE)]
    restored = embeddings.clone()
    if spaced and unspaced:
        restored[unspaced] = trained[unspaced] + (embeddings[spaced] - trained[spaced]).mean(dim=0)
    return restored
