"""The words of the world, each of which is one piece of the vocabulary, and what each of them means.

A name in a language is a concept and a language. What every piece means is known before training, so its embedding
starts as the sum of the two, and eighty languages times three hundred concepts are eighty plus three hundred things
to learn. Knows words; knows no tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from blip_space.languages import LANGUAGES
from training.lexicon.lexicon import Lexicon, language_codes, load_lexicon
from training.model.targets import KINDS
from training.scenes.colours import COLOURS

SPACE = "▁"


@dataclass(frozen=True)
class Sense:
    """What a piece means in one language: a factor of the reports and its option, or a word of its own, or neither
    (the language's own name)."""

    factor: str
    option: int
    language: str


Senses = Mapping[str, tuple[Sense, ...]]


@cache
def senses(folder: Path) -> Senses:
    """Every piece that has a meaning, with all that it means (languages share words)."""
    found: dict[str, list[Sense]] = {}
    for code in language_codes():
        lexicon = load_lexicon(code, folder)
        for word, factor, option in _words(lexicon):
            for piece in _pieces(word, lexicon, glued=factor == "kind"):
                found.setdefault(piece, []).append(Sense(factor, option, code))
    for language in LANGUAGES.values():
        found.setdefault(SPACE + language.prompt_name.replace(" ", SPACE), []).append(Sense("", 0, language.code))
    return {piece: tuple(dict.fromkeys(referents)) for piece, referents in found.items()}


def _words(lexicon: Lexicon) -> Iterator[tuple[str, str, int]]:
    """The language's words, each with the factor and the option that it says."""
    for number, kind in enumerate(KINDS, start=1):
        yield lexicon.name_of(kind), "kind", number
    for number, colour in enumerate(COLOURS, start=1):
        yield lexicon.colours[colour], "colour", number
    for number, word in enumerate(lexicon.numbers):
        yield word, "number", number
    yield from ((lexicon.no, "exists", 0), (lexicon.yes, "exists", 1), (lexicon.nothing, "exists", 2))


def _pieces(word: str, lexicon: Lexicon, *, glued: bool) -> Iterator[str]:
    """The word as a piece at the beginning of a text or after a space; and after another word, where lists join so."""
    written = word.replace(" ", SPACE)
    yield SPACE + written
    patterns = lexicon.names.patterns.values()
    if glued and not all(pattern.split("{1}")[0].endswith(" ") for pattern in patterns):
        yield written
