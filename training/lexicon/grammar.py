"""The interface of a language's grammar, which each language's module implements.

A grammar has answers (numbers, colours, shapes, counted objects, lists) and wordings of every question. Nouns and
colours have the keys of `scene` and `colours`; None stands for any shape. Depends on nothing else in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WORDINGS = (
    "count",  # how many {…} are there
    "colour_it",  # of the only object, or of the one just mentioned
    "colour_they",
    "colour_the",  # of one named object
    "colour_the_many",
    "colour_side",
    "shape_it",
    "shape_they",
    "shape_the",
    "shape_side",
    "what",
    "side",
    "exists",
    "caption",
    "and_many",  # after a count: and of these?
    "and_a",  # after "is there": and of these?
    "and_side",  # after a side: and there?
    "how_many",  # of what was just mentioned
)
"""The questions of which every grammar has at least one wording."""


@dataclass(frozen=True)
class Grammar:
    """One language's words for flat shapes."""

    code: str
    numbers: tuple[str, ...]
    yes: str
    no: str
    nothing: str
    colours: Mapping[str, str]
    """The answer to "What colour is it?"."""

    shapes: Mapping[str, tuple[str, str]]
    """The answers to "What shape is it?" and "What shape are they?"."""

    count_phrase: Callable[[int, str | None, str | None], str]
    """A number of objects of a shape and a colour: `count_phrase(3, "circle", "blue")` is "three blue circles"."""

    join: Callable[[Sequence[str]], str]
    """A list in words: "a, b and c"."""

    noun_forms: Callable[[str, str | None], Mapping[str, str]]
    """The forms of a noun (a key of `synonyms`' values), with a colour or without, by the wordings' placeholders."""

    synonyms: Mapping[str | None, tuple[str, ...]]
    """Nouns that a question may use for each shape, and (None) for any shape."""

    sides: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, tuple[str, ...]]


def list_joiner(*, comma: str = ", ", last: str) -> Callable[[Sequence[str]], str]:
    """A function that joins words with `comma` and the last two with `last`."""

    def join(items: Sequence[str]) -> str:
        return last.join(filter(None, (comma.join(items[:-1]), items[-1])))

    return join
