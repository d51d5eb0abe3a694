"""Marks: whether an answer is exactly the right one, and whether it is in the language asked for.

Knows words; knows no picture and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from blip_space.languages import LANGUAGES, UNSPACED_SCRIPTS
from training.evaluation.flat_shapes import EvalQuestion
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicon, load_lexicon
from training.scenes.scene import MAX_OBJECTS

ANSWERED_IN_LANGUAGE = "answer in the language asked"

Marks = dict[tuple[str, str], float]
"""(task, language) to the share of exact answers."""


def mark(questions: Sequence[EvalQuestion], said: Sequence[str], sources: Path) -> Marks:
    """The shares of exact answers, and of answers in the right language."""
    right: dict[tuple[str, str], list[bool]] = {}
    for question, words in zip(questions, said, strict=True):
        right.setdefault((question.task, question.language), []).append(words == question.truth)
        fits = words == question.truth or in_language(words, question.language, sources)
        right.setdefault((ANSWERED_IN_LANGUAGE, question.language), []).append(fits)
    return {key: sum(marks) / len(marks) for key, marks in right.items()}


def mean(marks: Mapping[tuple[str, str], float], task: str) -> float:
    """The mean share of a task over its languages."""
    shares = [share for (name, _), share in marks.items() if name == task]
    return sum(shares) / len(shares)


def in_language(words: str, code: str, sources: Path) -> bool:
    """Whether an answer, right or wrong, uses that language's own words alone."""
    known, spare = _lexicon(code, sources)
    if LANGUAGES[code].script in UNSPACED_SCRIPTS:
        return bool(words) and set(words) <= known
    parts = _split(words)
    return bool(parts) and all(part in known or any(part.removeprefix(one) in known for one in spare) for part in parts)


@cache
def _lexicon(code: str, sources: Path) -> tuple[frozenset[str], tuple[str, ...]]:
    """Every word of a language that an answer may hold (every character, where words are not spaced), and what it
    writes onto the next word."""
    lexicon = load_lexicon(code, sources)
    lines = [*lexicon.names.by_key.values(), *lexicon.colours.values(), *lexicon.shapes.values(), *lexicon.numbers]
    lines += [lexicon.yes, lexicon.no, lexicon.nothing, lexicon.unknown]
    lines += [lexicon.count_phrase("circle", count) for count in range(1, MAX_OBJECTS + 1)]
    lines.append(lexicon.join(lines[:3]))  # for the words that join a list
    lines += _grammatical(code)
    if LANGUAGES[code].script in UNSPACED_SCRIPTS:
        return frozenset("".join(lines)), ()
    return frozenset(word for line in lines for word in _split(line)), _glued(lexicon)


def _glued(lexicon: Lexicon) -> tuple[str, ...]:
    between = [pattern.split("{0}")[-1].split("{1}")[0] for pattern in lexicon.names.patterns.values()]
    return tuple({one.split()[-1] for one in between if one and not one[-1].isspace() and one.split()})


def _grammatical(code: str) -> list[str]:
    if code not in GRAMMARS:
        return []
    grammar = GRAMMARS[code]
    kinds = [(shape, colour) for shape in (None, *grammar.shapes) for colour in (None, *grammar.colours)]
    lines = [grammar.count_phrase(count, *kind) for count in range(1, MAX_OBJECTS + 1) for kind in kinds]
    lines += [word for pair in grammar.shapes.values() for word in pair]
    return [*lines, grammar.join(lines[:3])]


def _split(words: str) -> list[str]:
    return words.replace(",", " ").replace("،", " ").split()
