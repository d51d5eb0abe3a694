"""Laws of text that grows: whole characters, no stop string that flashes."""

from itertools import pairwise

import pytest

from blip_space.engine.detokenizer import visible_text

STOPS = ("\n", "Question:")


def shown(text: str, *stops: str) -> list[str]:
    """What a reader sees as the text grows by one character at a time, and at its end."""
    parts = [visible_text(text[:size], stops).text for size in range(1, len(text) + 1)]
    return [*parts, visible_text(text, stops, finished=True).text]


@pytest.mark.parametrize(
    "text", ["three blue circles", "drei  Kreise", "三個藍色的圓形", "किताब क्षत्रिय", "👩‍👧‍👦 👍🏽 é"]
)
def test_each_update_begins_with_the_one_before_and_the_last_is_all(text: str) -> None:
    parts = shown(text)
    assert parts[-1] == text
    assert all(later.startswith(earlier) for earlier, later in pairwise(parts))


def test_a_cluster_is_shown_when_it_can_no_longer_change() -> None:
    assert set(shown("👩‍👧 x")) == {"", "👩‍👧", "👩‍👧 x"}
    assert "e" not in shown("e\u0301t")


def test_half_a_character_is_never_shown() -> None:
    assert visible_text("a cat\ufffd").text == "a ca"
    assert visible_text("a cat\ufffd", finished=True).text == "a cat"


def test_a_stop_string_ends_the_text_and_nothing_of_it_flashes() -> None:
    text = " two cats. Question: What?"
    assert visible_text(text, STOPS) == visible_text(" two cats.\nmore", STOPS)
    assert visible_text(text, STOPS).stopped
    assert not any("Q" in part for part in shown(text, *STOPS))


def test_what_only_began_like_a_stop_string_is_shown_in_the_end() -> None:
    assert shown("Quest", *STOPS)[-1] == "Quest"
    assert visible_text("Questions", STOPS).text == "Question"


def test_space_around_an_answer_is_left_out() -> None:
    assert visible_text("\n  yes \n", ()).text == "yes"
    assert visible_text("", STOPS, finished=True).text == ""
