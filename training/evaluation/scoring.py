"""Scores: whether an answer is exactly the correct one, and whether it is in the requested language.

Must not import `model` or `rendering`.
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

Scores = dict[tuple[str, str], float]
"""The share of exact answers by (task, language)."""


def score(questions: Sequence[EvalQuestion], answers: Sequence[str], sources: Path) -> Scores:
    """The share of exact answers per task and language; `ANSWERED_IN_LANGUAGE` is a task that counts the language."""
    correct: dict[tuple[str, str], list[bool]] = {}
    for question, answer in zip(questions, answers, strict=True):
        correct.setdefault((question.task, question.language), []).append(answer == question.expected)
        is_in_language = answer == question.expected or in_language(answer, question.language, sources)
        correct.setdefault((ANSWERED_IN_LANGUAGE, question.language), []).append(is_in_language)
    return {key: sum(scores) / len(scores) for key, scores in correct.items()}


def mean(scores: Mapping[tuple[str, str], float], task: str) -> float:
    """The mean of a task's shares over all languages."""
    shares = [share for (name, _), share in scores.items() if name == task]
    return sum(shares) / len(shares)


def in_language(answer: str, code: str, sources: Path) -> bool:
    """Whether an answer, correct or not, consists only of words of the language `code`."""
    words, prefixes = _vocabulary(code, sources)
    if LANGUAGES[code].script in UNSPACED_SCRIPTS:
        return bool(answer) and set(answer) <= words
    parts = _split(answer)
    return bool(parts) and all(any(part.removeprefix(one) in words for one in ("", *prefixes)) for part in parts)


@cache
def _vocabulary(code: str, sources: Path) -> tuple[frozenset[str], tuple[str, ...]]:
    """Every word that an answer in the language may have (every character, if the script has no spaces), and the
    prefixes that a list may put before a word."""
    lexicon = load_lexicon(code, sources)
    lines = [*lexicon.names.by_key.values(), *lexicon.colours.values(), *lexicon.shapes.values(), *lexicon.numbers]
    lines += [lexicon.yes, lexicon.no, lexicon.nothing, lexicon.unknown]
    lines += [lexicon.count_phrase("circle", count) for count in range(1, MAX_OBJECTS + 1)]
    lines.append(lexicon.join(lines[:3]))  # for the words that join a list
    lines += _grammar_phrases(code)
    if LANGUAGES[code].script in UNSPACED_SCRIPTS:
        return frozenset("".join(lines)), ()
    return frozenset(word for line in lines for word in _split(line)), _list_prefixes(lexicon)


def _list_prefixes(lexicon: Lexicon) -> tuple[str, ...]:
    separators = [pattern.split("{0}")[-1].split("{1}")[0] for pattern in lexicon.names.patterns.values()]
    return tuple({one.split()[-1] for one in separators if one and not one[-1].isspace() and one.split()})


def _grammar_phrases(code: str) -> list[str]:
    if code not in GRAMMARS:
        return []
    grammar = GRAMMARS[code]
    kinds = [(shape, colour) for shape in (None, *grammar.shapes) for colour in (None, *grammar.colours)]
    lines = [grammar.count_phrase(count, *kind) for count in range(1, MAX_OBJECTS + 1) for kind in kinds]
    lines += [word for pair in grammar.shapes.values() for word in pair]
    return [*lines, grammar.join(lines[:3])]


def _split(answer: str) -> list[str]:
    return answer.replace(",", " ").replace("،", " ").split()
