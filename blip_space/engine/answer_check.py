"""Whether a finished answer can stand, and whether it only repeats itself; every answer is judged here, once.

Pure: depends on text and token ids; knows no model and no thread. What writes answers (the engine, the folder job, the
commands) asks before it hands one on, so that the page, the API, the command line and the output agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

from blip_space.engine.detokenizer import VisibleText
from blip_space.errors import EmptyAnswerError

MAX_PERIOD = 8
"""The longest run of tokens that counts as one repetition."""

MIN_REPETITIONS = 4

_VISIBLE = regex.compile(r"[^\p{White_Space}\p{C}\p{Default_Ignorable_Code_Point}\u2800\ufffd]")
"""Braille's blank and the mark of a broken character are characters that show nothing, or nothing of an answer."""

EMPTY_ANSWER = (
    "The model wrote nothing for this image. Ask in other words, switch between beam search (quality best) and "
    "streaming (quality stream), or choose another model."
)


@dataclass(frozen=True)
class CheckedAnswer:
    """What is known of an answer that can stand: its text, its length in tokens, and whether it ends in a loop."""

    text: str
    tokens: int
    repeats: bool


def check_answer(part: VisibleText, ids: Sequence[int], *, max_new_tokens: int) -> CheckedAnswer:
    """Judge a whole answer: what may be shown of it, and the ids that it was decoded from.

    Raises `EmptyAnswerError` where nothing of it is visible.
    """
    if is_blank(part.text):
        raise EmptyAnswerError(EMPTY_ANSWER)
    reached_limit = len(ids) >= max_new_tokens and not part.stopped
    return CheckedAnswer(part.text, len(ids), is_cut_off_in_loop(ids, reached_limit=reached_limit))


def is_blank(text: str) -> bool:
    """Whether nothing of the text is visible: it holds white space, zero-width and unprintable characters at most."""
    return _VISIBLE.search(text) is None


def is_cut_off_in_loop(ids: Sequence[int], *, reached_limit: bool) -> bool:
    """Whether the answer was cut off by its limit in the middle of a loop.

    That is so where its last one to eight tokens stand four times and more in succession at its end. An answer that
    ended by itself may repeat a word as often as it likes.
    """
    return reached_limit and any(_ends_in_loop(ids, period) for period in range(1, MAX_PERIOD + 1))


def _ends_in_loop(ids: Sequence[int], period: int) -> bool:
    length = period * MIN_REPETITIONS
    end = list(ids[-length:])
    return len(end) == length and end == end[-period:] * MIN_REPETITIONS
