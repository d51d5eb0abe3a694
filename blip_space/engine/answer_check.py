"""Checks whether a finished answer is empty, and whether it ends in a loop.

Depends on text, token ids and options only. Everything that generates answers checks them here, so that the page, the
API, the command line and the output files agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

from blip_space.engine.detokenizer import VisibleText
from blip_space.errors import EmptyAnswerError
from blip_space.options import GenerationOptions

MAX_PERIOD = 8
"""The longest sequence of tokens whose repetition counts as a loop."""

MIN_REPETITIONS = 4

_VISIBLE = regex.compile(r"[^\p{White_Space}\p{C}\p{Default_Ignorable_Code_Point}\u2800\ufffd]")
"""Matches a visible character. U+2800 is an empty Braille cell, U+FFFD an incomplete character."""

EMPTY_ANSWER = (
    "The model returned an empty answer for this image. Rephrase the prompt, switch between beam search (quality best) "
    "and streaming (quality stream), or choose another model."
)


@dataclass(frozen=True)
class CheckedAnswer:
    """A checked answer: its text, its length in tokens, and whether the token limit cut it off in a loop."""

    text: str
    tokens: int
    repeats: bool


def check_answer(visible: VisibleText, ids: Sequence[int], options: GenerationOptions) -> CheckedAnswer:
    """Check a finished answer: its visible text, and the ids that it was decoded from.

    Raises `EmptyAnswerError` if no character is visible, unless a stop string of the request may have removed all.
    """
    if is_blank(visible.text) and not (visible.stopped and options.stops):
        raise EmptyAnswerError(EMPTY_ANSWER)
    reached_limit = len(ids) >= options.max_new_tokens and not visible.stopped
    return CheckedAnswer(visible.text, len(ids), is_cut_off_in_loop(ids, reached_limit=reached_limit))


def is_blank(text: str) -> bool:
    """Whether a text has no visible character: only white space, zero-width and unprintable ones."""
    return _VISIBLE.search(text) is None


def is_cut_off_in_loop(ids: Sequence[int], *, reached_limit: bool) -> bool:
    """Whether an answer reached its token limit in a loop: its last one to eight tokens, repeated four times.

    An answer that ended by itself may repeat a word any number of times.
    """
    return reached_limit and any(_ends_in_loop(ids, period) for period in range(1, MAX_PERIOD + 1))


def _ends_in_loop(ids: Sequence[int], period: int) -> bool:
    length = period * MIN_REPETITIONS
    end = list(ids[-length:])
    return len(end) == length and end == end[-period:] * MIN_REPETITIONS
