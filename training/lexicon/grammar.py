"""The interface of a grammar, which a module for each language implements.

A grammar has the answers and, for every question, at least one wording. Its keys are the English shape and colour names
of `scene` and `colours`; the key None means any shape. Depends on nothing else in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WORDINGS = (
    "count",  # how many {…} are there?
    "colour_it",  # the colour of the only object, or of the object just mentioned
    "colour_they",
    "colour_the",  # the colour of one named object
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
    "and_many",  # after a count: and how many {…}?
    "and_a",  # after "is there {…}?": and {…}?
    "and_side",  # after a side: and at another side?
    "how_many",  # the number of the objects just mentioned
)
"""The keys of the questions; every grammar has at least one wording for each."""


@dataclass(frozen=True)
class Grammar:
    """One language's questions, answers and words about flat shapes."""

    code: str
    numbers: tuple[str, ...]
    yes: str
    no: str
    nothing: str
    colours: Mapping[str, str]
    """The answer to "What colour is it?", by the colour."""

    shapes: Mapping[str, tuple[str, str]]
    """The answers to "What shape is it?" and "What shape are they?", by the shape."""

    count_phrase: Callable[[int, str | None, str | None], str]
    """Returns the phrase for some shapes in a colour: `count_phrase(3, "circle", "blue")` is "three blue circles"."""

    join: Callable[[Sequence[str]], str]
    """Joins items to a list in words: "a, b and c"."""

    noun_forms: Callable[[str, str | None], Mapping[str, str]]
    """Returns the forms of a noun of `synonyms`, with a colour or without, by the placeholders of `questions`."""

    synonyms: Mapping[str | None, tuple[str, ...]]
    """The nouns that a question may use for each shape; the key None has those for any shape."""

    sides: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, tuple[str, ...]]


def list_joiner(*, comma: str = ", ", last: str) -> Callable[[Sequence[str]], str]:
    """A function that joins words with `comma` and the last two with `last`."""

    def join(items: Sequence[str]) -> str:
        return last.join(filter(None, (comma.join(items[:-1]), items[-1])))

    return join
