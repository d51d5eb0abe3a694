"""The everyday objects: a list of concepts, each with the emoji that depict it.

A concept's key is an English name from CLDR. Depends on nothing else in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("concepts.txt")


@dataclass(frozen=True)
class Concept:
    """One kind of everyday object. `emoji` has the English CLDR names of its emoji; the first is the concept's name."""

    emoji: tuple[str, ...]

    @property
    def name(self) -> str:
        """The concept's name, which is its key."""
        return self.emoji[0]


@cache
def concepts() -> tuple[Concept, ...]:
    """All concepts in file order; a concept's index is stable as long as the list is only appended to."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return tuple(Concept(tuple(line.split("|"))) for line in lines if line and not line.startswith("#"))
