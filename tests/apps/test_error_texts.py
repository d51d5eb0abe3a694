"""Laws of what a user of the page reads when an event fails."""

from __future__ import annotations

import ast
import html
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from blip_space import prompts
from blip_space.apps import error_texts, locales
from blip_space.errors import CODES, BusyError, PromptError, UserError
from blip_space.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]
GERMAN = locales.Locale(
    "de", {"error_busy": "Viele fragen gerade.", "error_prompt_too_long_percent": "{percent} % zu lang."}
)


@pytest.fixture
def german() -> Iterator[None]:
    token = locales.current_locale.set(GERMAN)
    yield
    locales.current_locale.reset(token)


@pytest.fixture
def english() -> Iterator[None]:
    token = locales.current_locale.set(locales.english())
    yield
    locales.current_locale.reset(token)


def test_every_code_has_a_sentence() -> None:
    assert {f"error_{code}" for code in CODES} <= set(locales.english().texts)


def test_every_detail_and_every_reason_has_a_text_and_no_text_is_unused() -> None:
    details, reasons = set(), set()
    for file in (ROOT / "blip_space").rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)):
            details |= {text for word in call.keywords if word.arg == "detail" and (text := text_of(word.value))}
            if getattr(call.func, "id", "") == "Reason" and len(call.args) > 1:
                reasons.add(text_of(call.args[1]))
    texts = locales.english().texts
    assert reasons == {key.removeprefix("reason_") for key in texts if key.startswith("reason_")}
    codes = sorted(CODES, key=len, reverse=True)
    keys = (key.removeprefix("error_") for key in texts if key.startswith("error_"))
    described = {key.removeprefix(f"{next(filter(key.startswith, codes))}").removeprefix("_") for key in keys}
    in_zips = {"compression", "long_name", "nested_zip", "unsafe_name"}
    assert details | in_zips == described - {""}


def text_of(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.usefixtures("german")
def test_an_error_is_said_in_the_users_language_by_its_code() -> None:
    assert error_texts.describe(BusyError("The queue is full.")) == "Viele fragen gerade."
    assert error_texts.describe(error_texts.PageError("Schon deutsch.")) == "Schon deutsch."


@pytest.mark.usefixtures("english")
def test_english_keeps_an_errors_own_sentence() -> None:
    assert error_texts.describe(BusyError("The queue is full.")) == "The queue is full."


@pytest.mark.usefixtures("german")
def test_a_detail_without_a_text_or_a_value_falls_back_to_its_code() -> None:
    for error in (BusyError("", detail="unheard_of"), UserError("", code="busy", detail="percent", values={})):
        assert error_texts.describe(error) == "Viele fragen gerade."


@pytest.mark.usefixtures("german")
def test_a_reason_without_a_code_is_not_shown_in_another_language() -> None:
    assert error_texts.explain(Reason("because")) == error_texts.explain("because") == ""


@pytest.mark.usefixtures("english")
def test_english_keeps_a_reasons_own_sentence() -> None:
    assert error_texts.explain(Reason("as you wished", "requested")) == "as you wished"


def test_programs_read_an_errors_own_sentence() -> None:
    error = UserError("It has 625 tokens.", code="prompt_too_long")
    assert error_texts.describe(error) == "It has 625 tokens."


@pytest.mark.usefixtures("english")
def test_too_long_a_question_names_by_how_much_to_shorten_it() -> None:
    with pytest.raises(PromptError) as caught:
        prompts.check_characters("x" * (prompts.MAX_PROMPT_CHARACTERS * 5 // 4))
    assert error_texts.describe(caught.value) == "The question is too long. Shorten it by at least 20%."
    without = UserError("It has 625 tokens.", code="prompt_too_long")
    assert error_texts.describe(without) == locales.english().text("error_prompt_too_long")


def test_a_notice_is_text_whatever_it_contains() -> None:
    message = error_texts.notice("busy", 'a <b> & "c"', model="<i>")
    assert "<" not in message
    _, fields, sentence = html.unescape(message).split(error_texts.SEPARATOR)
    assert (json.loads(fields), sentence) == ({"code": "busy", "model": "<i>"}, 'a <b> & "c"')
