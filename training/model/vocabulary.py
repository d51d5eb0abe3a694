"""The lexicon words, each of which is one piece of the vocabulary, and the meanings of each word.

A name stands for a concept in a language. Both are known before training, so the initial embedding of a name is the sum
of a vector for each: 80 languages with 300 names need only 80 + 300 vectors. Must not import torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from blip_space.languages import LANGUAGES, UNSPACED_SCRIPTS
from training.lexicon import plain
from training.lexicon.lexicon import Lexicon, language_codes, load_lexicon
from training.model.targets import KINDS
from training.scenes.colours import COLOURS
from training.scenes.general_names import members

SPACE = "▁"
MAX_ENDING = 3
"""The longest ending of a plain word that needs no piece of its own, in characters."""


@dataclass(frozen=True)
class WordMeaning:
    """What a piece means in `language`: option number `option` of `factor`, which is a key of `targets.FACTORS` or
    `embeddings.EXTRA_FACTORS`. If the piece is the language's own name, `factor` is ""."""

    factor: str
    option: int
    language: str
    is_plain: bool = False
    """Whether the piece occurs in questions only, as an inflected form or a general name."""


WordMeanings = Mapping[str, tuple[WordMeaning, ...]]


@cache
def word_meanings(folder: Path) -> WordMeanings:
    """The meanings of every lexicon word, by its piece; a word of several languages has several meanings."""
    meanings: dict[str, list[WordMeaning]] = {}
    for code in language_codes():
        lexicon = load_lexicon(code, folder)
        for word, factor, option in _lexicon_words(lexicon):
            for piece in _word_pieces(word, lexicon, unspaced=factor == "kind"):
                meanings.setdefault(piece, []).append(WordMeaning(factor, option, code))
    for code in language_codes():
        for piece, several in _plain_pieces(load_lexicon(code, folder)).items():
            if not any(not meaning.is_plain for meaning in meanings.get(piece, ())):
                meanings.setdefault(piece, []).extend(several)
    for language in LANGUAGES.values():
        piece = SPACE + language.prompt_name.replace(" ", SPACE)
        meanings.setdefault(piece, []).append(WordMeaning("", 0, language.code))
    return {piece: tuple(dict.fromkeys(several)) for piece, several in meanings.items()}


def _plain_pieces(lexicon: Lexicon) -> dict[str, list[WordMeaning]]:
    """The plain words that need a piece of their own, with their meanings, since a table of embeddings has its limits.

    A phrase needs none, nor does a word that is another word of its meaning with a short ending: "Hunde" for "Hund".
    """
    shorter: dict[str, list[str]] = {}
    pieces: dict[str, list[WordMeaning]] = {}
    for word, kind in sorted(set(plain.vocabulary(lexicon.code)), key=lambda entry: (len(entry[0]), entry)):
        stems = [lexicon.names.by_key.get(concept, "") for concept in members(kind)] + shorter.get(kind, [])
        is_inflected = any(stem and word.startswith(stem) and len(word) - len(stem) <= MAX_ENDING for stem in stems)
        if " " in word or is_inflected:
            continue
        shorter.setdefault(kind, []).append(word)
        is_spaced = LANGUAGES[lexicon.code].script not in UNSPACED_SCRIPTS
        pieces.setdefault(SPACE + word if is_spaced else word, []).extend(_plain_meanings(kind, lexicon.code))
    return pieces


def _plain_meanings(kind: str, code: str) -> Iterator[WordMeaning]:
    """The meanings of a plain word: the concepts that have the name `kind`."""
    for option, concept in enumerate(KINDS, start=1):
        if concept in members(kind):
            yield WordMeaning("kind", option, code, is_plain=True)


def _lexicon_words(lexicon: Lexicon) -> Iterator[tuple[str, str, int]]:
    """Each word of the lexicon, with its factor and option."""
    for option, kind in enumerate(KINDS, start=1):
        yield lexicon.name_of(kind), "kind", option
    for option, colour in enumerate(COLOURS, start=1):
        yield lexicon.colours[colour], "colour", option
    for option, word in enumerate(lexicon.numbers):
        yield word, "number", option
    yield from ((lexicon.no, "exists", 0), (lexicon.yes, "exists", 1), (lexicon.nothing, "exists", 2))
    yield lexicon.photograph, "photograph", 0


def _word_pieces(word: str, lexicon: Lexicon, *, unspaced: bool) -> Iterator[str]:
    """The word's piece after a space, and its piece without a space if `unspaced` and the language's lists need it."""
    piece = word.replace(" ", SPACE)
    yield SPACE + piece
    patterns = lexicon.names.patterns.values()
    if unspaced and not all(pattern.split("{1}")[0].endswith(" ") for pattern in patterns):
        yield piece
