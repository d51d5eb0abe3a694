"""General names, each of several concepts: "apple" is a red apple and a green one, "animal" is a dog and a frog.

Some concepts are doubtful: people would disagree whether a shark is a fish. Depends on `concepts` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("general_names.txt")


@dataclass(frozen=True)
class GeneralName:
    """The concepts that have the name, and those of which it is doubtful."""

    members: frozenset[str]
    doubtful: frozenset[str]


@cache
def general_names() -> Mapping[str, GeneralName]:
    """All general names by their English words; some, as "bird", are the name of a concept too."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    entries = (line.split("|") for line in lines if line and not line.startswith("#"))
    return {name: GeneralName(_concepts(members), _concepts(doubtful)) for name, members, doubtful in entries}


def _concepts(text: str) -> frozenset[str]:
    return frozenset(filter(None, text.split(", ")))


def members(kind: str) -> frozenset[str]:
    """The kinds of objects that `kind` names: those of a general name, or `kind` itself."""
    general = general_names().get(kind)
    return general.members if general else frozenset((kind,))


def is_doubtful(kind: str, kinds: Iterable[str]) -> bool:
    """Whether people would disagree about the number of objects that `kind` names, among objects of `kinds`."""
    general = general_names().get(kind)
    return bool(general and general.doubtful & frozenset(kinds))
