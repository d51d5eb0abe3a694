"""What every language here can say: the frame that each language's module fills.

A tongue answers (numbers, colours, shapes, counted things, lists) and asks (several wordings of every question). Knows
no scene, no prompt and no model. Nouns and colours go by the keys of `scenes` and `colours`; None stands for any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WORDINGS = (
    "count",  # how many {…} are there
    "colour_it",  # of the only thing, or of the thing just spoken of
    "colour_they",
    "colour_the",  # of one named thing
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
    "how_many",  # of what was just spoken of
)
"""The questions that every tongue must have at least one wording of."""


@dataclass(frozen=True)
class Tongue:
    """One language's words for the world of shapes."""

    code: str
    numbers: tuple[str, ...]
    yes: str
    no: str
    nothing: str
    colours: Mapping[str, str]
    """The answer to "What colour is it?"."""

    shapes: Mapping[str, tuple[str, str]]
    """The answers to "What shape is it?" and "What shape are they?"."""

    counted: Callable[[int, str | None, str | None], str]
    """So many things of a shape and a colour: `counted(3, "circle", "blue")` is "three blue circles"."""

    join: Callable[[Sequence[str]], str]
    """A list in words: "a, b and c"."""

    forms: Callable[[str, str | None], Mapping[str, str]]
    """The forms of a noun (a key of `synonyms`' values) and perhaps a colour that the wordings have places for."""

    synonyms: Mapping[str | None, tuple[str, ...]]
    """Nouns that a questioner may use for each shape, and (None) for any shape."""

    sides: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, tuple[str, ...]]


def listed(*, comma: str = ", ", last: str) -> Callable[[Sequence[str]], str]:
    """A function that joins words with `comma` and the last two with `last`."""

    def join(items: Sequence[str]) -> str:
        return last.join(filter(None, (comma.join(items[:-1]), items[-1])))

    return join
