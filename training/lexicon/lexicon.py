"""The lexicon of each language: words and question templates that need no grammar.

Each language has a table in `tables/`; names of objects are from CLDR. Templates use a name in its dictionary form.
Must not import `scene`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.lexicon import GRAMMARS, plain
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

    photograph: str
    """The answer to a question about a photograph that asks for more than a name."""

    numbers: tuple[str, ...]
    colours: Mapping[str, str]
    shapes: Mapping[str, str]
    questions: Mapping[str, tuple[str, ...]]
    names: LocaleNames

    def name_of(self, kind: str) -> str:
        """The name of `kind`, which is a flat shape or a concept."""
        return self.shapes.get(kind) or self.names.by_key[kind]

    def count_phrase(self, kind: str, count: int) -> str:
        """The phrase for `count` objects of `kind`: "cat", "cat × 2"."""
        name = self.name_of(kind)
        return name if count == 1 else SEVERAL.format(name=name, count=count)

    def join(self, items: Sequence[str]) -> str:
        """Join `items` to a list in words."""
        return self.names.join(items)


Lexicons = Mapping[str, Lexicon]  # by the language's code


def language_codes() -> tuple[str, ...]:
    """The codes of the languages that have a table, in alphabetical order."""
    return tuple(sorted(path.stem for path in TABLES.glob("*.json")))


@cache
def load_lexicon(code: str, folder: Path) -> Lexicon:
    """The lexicon of the language `code`. CLDR, which has the names, is downloaded into `folder` if it is missing."""
    keys = [concept.name for concept in concepts()]
    annotations, lists = (sources.fetch(source, folder) for source in (sources.ANNOTATIONS, sources.LISTS))
    locale_names = names.load_names(annotations, lists, code, keys)
    if not locale_names:
        raise ValueError(f"CLDR lacks names in {code}: remove its table.")
    table = json.loads((TABLES / f"{code}.json").read_text(encoding="utf-8"))
    questions = {wording: tuple(words) for wording, words in table.pop("questions").items()}
    table |= {"numbers": tuple(table["numbers"]), "photograph": plain.plain_words()[code].photograph}
    if code in GRAMMARS:  # the grammar and the templates must use the same words
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
