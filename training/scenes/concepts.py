"""The everyday things of the world: a list of concepts, each with the pictures that show it.

Knows English keys only (the names in CLDR); knows no other language and no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("concepts.txt")


@dataclass(frozen=True)
class Concept:
    """One thing that can be named. Its pictures' names are CLDR's in English; the first one is the concept's own."""

    pictures: tuple[str, ...]

    @property
    def name(self) -> str:
        """The concept's key."""
        return self.pictures[0]


@cache
def concepts() -> tuple[Concept, ...]:
    """All of them, in the order of the list; a concept's number never changes while the list only grows."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return tuple(Concept(tuple(line.split("|"))) for line in lines if line and not line.startswith("#"))
