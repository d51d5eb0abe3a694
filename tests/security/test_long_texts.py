"""A text that does not fit takes little time, however long it is: it is cut before it is cleaned."""

from __future__ import annotations

import pytest

from blip_space import prompts
from blip_space.apps.gradio_api import parsing
from blip_space.errors import PromptError
from blip_space.languages import LANGUAGES
from blip_space.prompts import MAX_PROMPT_CHARACTERS, STYLES, ComposedPrompt, clean, compose, compose_chat
from blip_space.prompts.cleaning import clean_start

BUDGET = 40
LONG = "many words " * 90_000


class Cleaner:
    """Cleans texts, and counts their characters."""

    def __init__(self) -> None:
        self.characters = 0

    def __call__(self, text: str) -> str:
        self.characters += len(text)
        return clean(text)


@pytest.fixture
def cleaner(monkeypatch: pytest.MonkeyPatch) -> Cleaner:
    """What cleans every text of a prompt."""
    cleaner = Cleaner()
    monkeypatch.setattr(prompts, "clean", cleaner)
    monkeypatch.setattr(prompts, "clean_lines", cleaner)
    return cleaner


def count_words(text: str) -> list[int]:
    """A token for each word."""
    return [0] * len(text.split())


def compose_question(turns: list[tuple[str, str]], question: str) -> ComposedPrompt:
    return compose(
        turns, question, style=STYLES["mblip"], language=LANGUAGES["en"], budget_tokens=BUDGET, tokenize=count_words
    )


def compose_messages(turns: list[tuple[str, str]], question: str) -> ComposedPrompt:
    def render(earlier: object, newest: str) -> prompts.RenderedPrompt:
        text = f"{earlier} {newest}"
        return prompts.RenderedPrompt(text, count_words(text))

    return compose_chat(
        turns, question, style=STYLES["mblip"], language=LANGUAGES["en"], budget_tokens=BUDGET, render=render
    )


@pytest.mark.parametrize("compose_any", [compose_question, compose_messages])
@pytest.mark.parametrize("turn", [("What?", LONG), (LONG, "a cat"), ("." * 900_000, "a cat")])
def test_a_long_turn_is_dropped_at_its_start(compose_any: object, turn: tuple[str, str], cleaner: Cleaner) -> None:
    composed = compose_any([turn, ("Which?", "a dog")], "What is this?")  # type: ignore[operator]
    assert composed.kept_turns == (("Which?", "a dog"),)
    assert len(composed.dropped_turns) == 1
    assert cleaner.characters < 10_000


def test_a_long_question_is_refused_at_its_start(cleaner: Cleaner) -> None:
    with pytest.raises(PromptError, match=r"it has 186,999 characters, and at most about 800 fit"):
        compose_question([], "many words " * 17_000)
    assert cleaner.characters < 10_000


def test_white_space_does_not_count() -> None:
    turn = ("Which?" + " " * 50_000, "\n\t" * 50_000 + "a dog")
    assert compose_question([turn], "What is this?").kept_turns == (turn,)


@pytest.mark.parametrize("text", ["", "a", "a  b", "a" * 500, " " * 5_000 + "a", "ab " * 70 + " " * 9_000 + "c"])
def test_what_fits_is_cleaned_as_a_whole(text: str) -> None:
    start, whole = clean_start(text, clean, 200), clean(text)
    assert start == whole if len(whole) <= 200 else (whole.startswith(start) and len(start) > 200)


def test_no_prompt_of_a_call_is_too_long_to_be_cleaned() -> None:
    with pytest.raises(PromptError, match=r"has 200,001 characters and at most 200,000 are read"):
        parsing.parse_task("x" * (MAX_PROMPT_CHARACTERS + 1), "en", "")
