"""Every language's plain words: enough to name things, count them, say yes or no and ask, with no grammar at all.

The tables beside this file hold one language each; the names of things come from CLDR. Sentences are built so that a
name fits as the dictionary has it. Knows words; knows no scene.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.lexicon import TONGUES
from training.scenes import names, sources
from training.scenes.concepts import concepts
from training.scenes.names import LocaleNames

TABLES = Path(__file__).parent / "tables"
TIMES = "{name} × {count}"
"""How several of a kind are said: no language needs to know a plural for it."""


@dataclass(frozen=True)
class Plain:
    """One language's plain words."""

    code: str
    yes: str
    no: str
    nothing: str
    unknown: str
    """What is said of a picture that shows nothing of the world."""

    numbers: tuple[str, ...]
    colours: Mapping[str, str]
    shapes: Mapping[str, str]
    questions: Mapping[str, tuple[str, ...]]
    names: LocaleNames

    def called(self, kind: str) -> str:
        """The name of a flat shape or of a concept."""
        return self.shapes.get(kind) or self.names.by_key[kind]

    def counted(self, kind: str, count: int) -> str:
        """So many of a kind."""
        name = self.called(kind)
        return name if count == 1 else TIMES.format(name=name, count=count)

    def join(self, items: Sequence[str]) -> str:
        """A list in words."""
        return self.names.join(items)


def codes() -> tuple[str, ...]:
    """Every language that there is a table for."""
    return tuple(sorted(path.stem for path in TABLES.glob("*.json")))


@cache
def load(code: str, folder: Path) -> Plain:
    """The language's words; CLDR's part is fetched into `folder` where it does not lie there yet."""
    keys = [concept.name for concept in concepts()]
    annotations, lists = (sources.fetch(source, folder) for source in (sources.ANNOTATIONS, sources.LISTS))
    found = names.load_names(annotations, lists, code, keys)
    if not found:
        raise ValueError(f"CLDR lacks names in {code}: its table has to go.")
    table = json.loads((TABLES / f"{code}.json").read_text(encoding="utf-8"))
    questions = {wording: tuple(words) for wording, words in table.pop("questions").items()}
    table |= {"numbers": tuple(table["numbers"])}
    if code in TONGUES:  # what is said with grammar must be said alike without
        table |= _shared(code)
    return Plain(code=code, questions=questions, names=found, **table)


def _shared(code: str) -> dict[str, object]:
    tongue = TONGUES[code]
    return {
        "yes": tongue.yes,
        "no": tongue.no,
        "nothing": tongue.nothing,
        "numbers": tongue.numbers,
        "colours": tongue.colours,
        "shapes": {shape: one for shape, (one, _) in tongue.shapes.items()},
    }
