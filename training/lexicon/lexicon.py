"""The lexicon of each language: words and question templates that need no grammar.

There is a table for each language in `tables/`; names of objects come from CLDR. Templates take a name in its
dictionary form. Must not import `scene`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.lexicon import GRAMMARS
from training.scenes import names, sources
from training.scenes.concepts import concepts
from training.scenes.names import LocaleNames

TABLES = Path(__file__).parent / "tables"
SEVERAL = "{name} × {count}"
"""The phrase for several objects of a kind, which needs no plural."""


@dataclass(frozen=True)
class Lexicon:
    """One language's words and question templates."""

    code: str
    yes: str
    no: str
    nothing: str
    unknown: str
    """The answer to any question about an out-of-distribution image."""

    numbers: tuple[str, ...]
    colours: Mapping[str, str]
    shapes: Mapping[str, str]
    questions: Mapping[str, tuple[str, ...]]
    names: LocaleNames

    def name_of(self, kind: str) -> str:
        """The name of a flat shape or of a concept."""
        return self.shapes.get(kind) or self.names.by_key[kind]

    def count_phrase(self, kind: str, count: int) -> str:
        """A number of objects of a kind: "cat", "cat × 2"."""
        name = self.name_of(kind)
        return name if count == 1 else SEVERAL.format(name=name, count=count)

    def join(self, items: Sequence[str]) -> str:
        """A list in words."""
        return self.names.join(items)


Lexicons = Mapping[str, Lexicon]  # by the language's code


def language_codes() -> tuple[str, ...]:
    """The languages that have a table."""
    return tuple(sorted(path.stem for path in TABLES.glob("*.json")))


@cache
def load_lexicon(code: str, folder: Path) -> Lexicon:
    """The language's lexicon, with names from CLDR, which is downloaded into `folder` if it is missing."""
    keys = [concept.name for concept in concepts()]
    annotations, lists = (sources.fetch(source, folder) for source in (sources.ANNOTATIONS, sources.LISTS))
    locale_names = names.load_names(annotations, lists, code, keys)
    if not locale_names:
        raise ValueError(f"CLDR lacks names in {code}: remove its table.")
    table = json.loads((TABLES / f"{code}.json").read_text(encoding="utf-8"))
    questions = {wording: tuple(words) for wording, words in table.pop("questions").items()}
    table |= {"numbers": tuple(table["numbers"])}
    if code in GRAMMARS:  # both must use the same words
        table |= _grammar_words(code)
    return Lexicon(code=code, questions=questions, names=locale_names, **table)


def _grammar_words(code: str) -> dict[str, object]:
    grammar = GRAMMARS[code]
    return {
        "yes": grammar.yes,
        "no": grammar.no,
        "nothing": grammar.nothing,
        "numbers": grammar.numbers,
        "colours": grammar.colours,
        "shapes": {shape: singular for shape, (singular, _) in grammar.shapes.items()},
    }
