"""Checks of a finished answer: visible text, and no loop up to the token limit."""

from __future__ import annotations

import itertools

import pytest

from blip_space.engine.answer_check import MAX_PERIOD, MIN_REPETITIONS, check_answer, is_blank, is_cut_off_in_loop
from blip_space.engine.detokenizer import VisibleText, visible_text
from blip_space.errors import EmptyAnswerError, UserError
from blip_space.options import GenerationOptions

BLANKS = {
    "nothing": "",
    "spaces": "  \t\n\u00a0\u3000\u2003",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff\u00ad",
    "direction marks": "\u200e\u200f\u202a\u202e\u2066",
    "control characters": "\x00\x1b\x7f\x85",
    "fillers": "\u115f\u1160\u3164\uffa0\u2800\u180e",
    "variation selectors": "\ufe0f\U000e0100",
    "partial characters": "\ufffd \ufffd",
    "private and unassigned": "\ue000\uffff",
    "a lone surrogate": "\udc80",
}


@pytest.mark.parametrize("kind", BLANKS)
def test_an_answer_without_visible_characters_is_empty(kind: str) -> None:
    assert is_blank(BLANKS[kind])
    with pytest.raises(EmptyAnswerError, match=r"empty answer for this image\. Rephrase the prompt.*another model\."):
        check_answer(VisibleText(BLANKS[kind], stopped=False), [5, 5], GenerationOptions(max_new_tokens=8))


@pytest.mark.parametrize("text", [".", "٣", "三", "🐙", "\u200bx", "👩\u200d👧", "ไ", "$", "\u0301a", "<b></b>"])
def test_an_answer_with_a_visible_character_is_not_empty(text: str) -> None:
    assert not is_blank(text)
    assert check_answer(VisibleText(text, stopped=False), [5], GenerationOptions(max_new_tokens=8)).text == text


def test_a_stop_string_of_the_request_may_remove_everything() -> None:
    stopped, options = VisibleText("", stopped=True), GenerationOptions(max_new_tokens=8, stops=("x",))
    assert check_answer(stopped, [5], options).text == ""
    with pytest.raises(EmptyAnswerError):  # the model's own stop string
        check_answer(stopped, [5], GenerationOptions(max_new_tokens=8))


def test_an_empty_answer_is_a_user_error() -> None:
    assert issubclass(EmptyAnswerError, UserError)


@pytest.mark.parametrize("period", range(1, MAX_PERIOD + 1))
def test_one_to_eight_tokens_four_times_at_the_end_are_a_loop(period: int) -> None:
    loop = list(range(period)) * MIN_REPETITIONS
    assert is_cut_off_in_loop([100, 101, *loop], reached_limit=True)
    assert is_cut_off_in_loop(loop, reached_limit=True)
    assert not is_cut_off_in_loop(loop[1:], reached_limit=True)


def test_a_loop_may_be_cut_off_within_a_repetition() -> None:
    endless = itertools.cycle([7, 8, 9])
    for length in range(12, 20):
        assert is_cut_off_in_loop([1, 2, *itertools.islice(endless, length)], reached_limit=True)


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [1],
        [1, 1, 1],
        [1, 1, 1, 1, 2],
        list(range(9)) * 4,
        [1, 2, 1, 2, 1, 2, 2, 1],
    ],
)
def test_fewer_or_longer_or_earlier_repetitions_are_no_loop(ids: list[int]) -> None:
    assert not is_cut_off_in_loop(ids, reached_limit=True)


def test_an_answer_below_its_limit_may_repeat_itself() -> None:
    assert not is_cut_off_in_loop([1] * 40, reached_limit=False)
    assert not check_answer(VisibleText("ha ha", stopped=False), [1] * 40, GenerationOptions(max_new_tokens=41)).repeats
    assert check_answer(VisibleText("ha ha", stopped=False), [1] * 40, GenerationOptions(max_new_tokens=40)).repeats
    stopped = visible_text("ha ha ha\nQuestion:", ("\n",), finished=True)
    assert not check_answer(stopped, [1] * 40, GenerationOptions(max_new_tokens=40)).repeats
